import pytest
import torch
from torch import Tensor

from infinitetalk.sampling.guidance import Branch, ProjectedGuidance, branches, combine
from infinitetalk.spec import Apg

GENERATOR = torch.Generator().manual_seed(1)
C, N, U, D = torch.randn(4, 1, 16, 3, 4, 4, generator=GENERATOR)
EVERY = {Branch.COND: C, Branch.DROP_TEXT: N, Branch.UNCOND: U, Branch.DROP_AUDIO: D}


def predictions(text_scale: float, audio_scale: float) -> dict[Branch, Tensor]:
    return {branch: EVERY[branch] for branch in branches(text_scale, audio_scale)}


def combined(text_scale: float, audio_scale: float) -> Tensor:
    return combine(predictions(text_scale, audio_scale), text_scale, audio_scale)


@pytest.mark.parametrize(
    ("text_scale", "audio_scale", "forwards"),
    [
        (1.0, 1.0, ["cond"]),
        (1.0, 4.0, ["cond", "drop_audio"]),
        (1.0, 0.0, ["cond", "drop_audio"]),
        (5.0, 1.0, ["cond", "drop_text"]),
        (5.0, 4.0, ["cond", "drop_text", "uncond"]),
        (1.0 + 1e-12, 4.0, ["cond", "drop_audio"]),
        (1.0 + 1e-6, 4.0, ["cond", "drop_text", "uncond"]),
    ],
)
def test_a_step_runs_only_the_forwards_its_scales_need(
    text_scale: float, audio_scale: float, forwards: list[str]
) -> None:
    assert [str(branch) for branch in branches(text_scale, audio_scale)] == forwards


def test_both_scales_one_is_the_full_prediction_itself() -> None:
    assert torch.equal(combined(1.0, 1.0), C)


def test_audio_scale_one_gives_what_three_forwards_would() -> None:
    three = {Branch.COND: C, Branch.DROP_TEXT: N, Branch.UNCOND: U}
    assert torch.allclose(combined(5.0, 1.0), combine(three, 5.0, 1.0), atol=1e-5)


def test_text_and_audio_scale_one_give_what_two_forwards_would() -> None:
    two = {Branch.COND: C, Branch.DROP_AUDIO: D}
    assert torch.allclose(combined(1.0, 1.0), combine(two, 1.0, 1.0), atol=1e-6)


def test_scale_zero_leaves_its_condition_out() -> None:
    assert torch.equal(combined(1.0, 0.0), D)


def test_text_and_audio_are_guided_apart() -> None:
    moved = combined(5.0, 4.0) - combined(5.0, 3.0)
    assert torch.allclose(moved, N - U, atol=1e-5)


def projected(momentum: float = 0.0, threshold: float = 1e9) -> ProjectedGuidance:
    return ProjectedGuidance(Apg(momentum, threshold))


@pytest.mark.parametrize(("text_scale", "audio_scale"), [(5.0, 4.0), (1.0, 4.0), (5.0, 1.0)])
def test_projected_guidance_moves_only_across_the_full_prediction(
    text_scale: float, audio_scale: float
) -> None:
    guided = projected().combine(predictions(text_scale, audio_scale), text_scale, audio_scale)
    moved = (guided - C).double()
    assert moved.norm() > 1
    assert abs((moved * C).sum() / moved.norm() / C.norm()) < 1e-6


def test_projected_guidance_keeps_an_average_for_text_and_one_for_audio() -> None:
    """What text did in the last step must not reach the audio direction of this one."""
    apg, fresh = projected(momentum=0.5), projected(momentum=0.5)
    audio_free = {Branch.COND: C, Branch.DROP_TEXT: N, Branch.UNCOND: N}
    apg.combine(audio_free, 5.0, 4.0)
    text_free = {Branch.COND: C, Branch.DROP_TEXT: C, Branch.UNCOND: U}
    after_text = apg.combine(text_free, 1.0, 4.0)  # the text direction has scale 0 here
    assert torch.allclose(after_text, fresh.combine(text_free, 1.0, 4.0), atol=1e-6)


def test_the_average_of_a_direction_runs_on_with_momentum() -> None:
    apg, once = projected(momentum=-0.75), projected()
    two = predictions(1.0, 2.0)
    first = apg.combine(two, 1.0, 2.0) - C
    second = apg.combine(two, 1.0, 2.0) - C
    assert torch.allclose(first, once.combine(two, 1.0, 2.0) - C)
    assert torch.allclose(second, 0.25 * first, atol=1e-5)


def test_the_cap_limits_what_is_used_but_not_what_is_remembered() -> None:
    capped, free = projected(momentum=1.0, threshold=1.0), projected(momentum=1.0)
    two = predictions(1.0, 2.0)
    for _ in range(3):
        last_capped = capped.combine(two, 1.0, 2.0) - C
        last_free = free.combine(two, 1.0, 2.0) - C
    direction = 3 * (C - D)
    assert torch.allclose(last_capped, last_free / direction.norm(), atol=1e-5)


def test_a_new_window_starts_without_an_average() -> None:
    used = projected(momentum=-0.75)
    used.combine(predictions(5.0, 4.0), 5.0, 4.0)
    again = projected(momentum=-0.75).combine(predictions(5.0, 4.0), 5.0, 4.0)
    assert not torch.allclose(used.combine(predictions(5.0, 4.0), 5.0, 4.0), again)
    assert torch.equal(again, projected(momentum=-0.75).combine(predictions(5.0, 4.0), 5.0, 4.0))


def test_no_difference_moves_nothing_and_is_finite() -> None:
    same = {Branch.COND: C, Branch.DROP_AUDIO: C}
    assert torch.equal(projected(threshold=55.0).combine(same, 1.0, 4.0), C)
