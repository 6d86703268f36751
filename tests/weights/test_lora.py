"""What becomes of every key of a LoRA file."""

import pytest
import torch
from torch import Tensor

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.weights.lora import (
    PREFIX,
    LoraReport,
    Shape,
    add_loras,
    merge,
    read_lora,
    sort_lora,
)

SHAPES = {
    "blocks.0.self_attn.q.weight": (6, 4),
    "blocks.0.self_attn.q.bias": (6,),
    "blocks.0.norm3.weight": (4,),
    "patch_embedding.weight": (6, 36, 1, 2, 2),
}
Q = "blocks.0.self_attn.q"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def file(**tensors: Tensor) -> dict[str, Tensor]:
    return {PREFIX + key: tensor for key, tensor in tensors.items()}


def pair(stem: str, up: str = "lora_up", down: str = "lora_down") -> dict[str, Tensor]:
    return file(
        **{f"{stem}.{up}.weight": draw(6, 2, seed=1), f"{stem}.{down}.weight": draw(2, 4, seed=2)}
    )


def report_of(lora: dict[str, Tensor]) -> LoraReport:
    return read_lora(lora, SHAPES)[1]


@pytest.mark.parametrize(("up", "down"), [("lora_up", "lora_down"), ("lora_B", "lora_A")])
def test_a_pair_adds_its_product_under_either_name(up: str, down: str) -> None:
    lora = pair(Q, up, down)
    deltas, report = read_lora(lora, SHAPES)
    weight = draw(6, 4, seed=3)
    merged = merge(weight, deltas[f"{Q}.weight"], 0.5)
    assert torch.allclose(merged, weight + 0.5 * draw(6, 2, seed=1) @ draw(2, 4, seed=2))
    assert sorted(report.used) == sorted(lora)


def test_a_difference_is_added_to_weight_or_bias() -> None:
    lora = file(**{f"{Q}.diff": draw(6, 4), f"{Q}.diff_b": draw(6), "blocks.0.norm3.diff": draw(4)})
    deltas, report = read_lora(lora, SHAPES)
    assert deltas.keys() == {f"{Q}.weight", f"{Q}.bias", "blocks.0.norm3.weight"}
    assert torch.equal(merge(torch.zeros(6), deltas[f"{Q}.bias"], 2.0), 2 * draw(6))
    assert not report.ignored


@pytest.mark.parametrize("is_pair_first", [True, False])
def test_a_module_with_a_pair_and_a_difference_gets_both(is_pair_first: bool) -> None:
    parts = [pair(Q), file(**{f"{Q}.diff": draw(6, 4, seed=5)})]
    lora = {k: t for part in (parts if is_pair_first else parts[::-1]) for k, t in part.items()}
    deltas, _ = read_lora(lora, SHAPES)
    wanted = draw(6, 2, seed=1) @ draw(2, 4, seed=2) + draw(6, 4, seed=5)
    assert torch.allclose(merge(torch.zeros(6, 4), deltas[f"{Q}.weight"], 1.0), wanted)


def test_the_patch_embedding_of_a_text_to_video_model_is_left_out_with_the_reason() -> None:
    lora = file(**{"patch_embedding.diff": draw(6, 16, 1, 2, 2), f"{Q}.diff": draw(6, 4)})
    deltas, report = read_lora(lora, SHAPES)
    assert deltas.keys() == {f"{Q}.weight"}
    reason = report.ignored[f"{PREFIX}patch_embedding.diff"]
    assert reason == "shape [6, 16, 1, 2, 2] does not fit [6, 36, 1, 2, 2]"


def test_a_pair_for_the_patch_embedding_is_a_convolution() -> None:
    stem = f"{PREFIX}patch_embedding"
    lora = {
        f"{stem}.lora_up.weight": draw(6, 2, 1, 1, 1),
        f"{stem}.lora_down.weight": draw(2, 36, 1, 2, 2),
    }
    deltas, report = read_lora(lora, SHAPES)
    merged = merge(
        torch.zeros(SHAPES["patch_embedding.weight"]), deltas["patch_embedding.weight"], 1
    )
    wanted = torch.einsum("or,rcthw->octhw", draw(6, 2, 1, 1, 1).flatten(1), draw(2, 36, 1, 2, 2))
    assert torch.allclose(merged, wanted, atol=1e-5)
    assert not report.ignored


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        (f"{PREFIX}{Q}.alpha", (), "alpha has no effect"),
        (f"{PREFIX}{Q}.diff_m", (1, 6, 4), "unknown kind"),
        (f"{Q}.lora_up.weight", (6, 2), f"no {PREFIX} prefix"),
        (f"{PREFIX}{Q}.lora_up.weight", (6, 2), "its other half is missing"),
        (f"{PREFIX}{Q}.lora_down.weight", (2, 4), "its other half is missing"),
        (f"{PREFIX}{Q}.lora_A.weight", (2, 4), "its other half is missing"),
        (f"{PREFIX}blocks.7.ffn.0.diff", (6, 4), "the model has no blocks.7.ffn.0.weight"),
        (f"{PREFIX}blocks.0.norm3.diff_b", (4,), "the model has no blocks.0.norm3.bias"),
        (f"{PREFIX}{Q}.diff", (4, 7), "shape [4, 7] does not fit [6, 4]"),
    ],
)
def test_a_key_without_effect_is_reported_with_the_reason(
    key: str, shape: tuple[int, ...], reason: str
) -> None:
    deltas, report = read_lora({key: draw(*shape)}, SHAPES)
    assert not deltas
    assert report.ignored == {key: reason}


@pytest.mark.parametrize(
    ("up", "down", "reason"),
    [
        ((6, 2), (3, 4), "ranks 2 and 3 differ"),
        ((5, 2), (2, 4), "shape [5, 4] does not fit [6, 4]"),
        ((6, 2), (2, 5), "shape [6, 5] does not fit [6, 4]"),
        ((6, 2, 1, 1), (2, 4, 1, 1), "shape [6, 4, 1, 1] does not fit [6, 4]"),
    ],
)
def test_a_pair_that_does_not_fit_is_reported_with_both_halves(
    up: tuple[int, ...], down: tuple[int, ...], reason: str
) -> None:
    lora = file(**{f"{Q}.lora_up.weight": draw(*up), f"{Q}.lora_down.weight": draw(*down)})
    deltas, report = read_lora(lora, SHAPES)
    assert not deltas
    assert report.ignored == dict.fromkeys(lora, reason)


def test_a_transposed_difference_is_not_taken_for_its_number_of_values() -> None:
    assert report_of(file(**{f"{Q}.diff": draw(4, 6)})).ignored


@pytest.mark.parametrize(("up", "down"), [((6,), (2, 4)), ((6, 2), (4,)), ((), ())])
def test_a_half_that_is_no_matrix_is_reported(up: tuple[int, ...], down: tuple[int, ...]) -> None:
    lora = file(**{f"{Q}.lora_up.weight": draw(*up), f"{Q}.lora_down.weight": draw(*down)})
    assert report_of(lora).ignored.keys() == lora.keys()


def test_every_key_is_used_or_ignored_and_never_both() -> None:
    lora = {
        **pair(Q),
        **file(**{f"{Q}.alpha": draw(), f"{Q}.diff_b": draw(6), "patch_embedding.diff": draw(3)}),
        "blocks.0.norm3.diff": draw(4),
    }
    report = report_of(lora)
    assert sorted([*report.used, *report.ignored]) == sorted(lora)


def test_half_precision_weights_are_merged_in_float32_and_rounded_once() -> None:
    deltas, _ = read_lora(pair(Q), SHAPES)
    weight = draw(6, 4, seed=3).bfloat16()
    merged = merge(weight, deltas[f"{Q}.weight"], 0.3)
    exact = weight.float() + 0.3 * (draw(6, 2, seed=1) @ draw(2, 4, seed=2))
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, exact.bfloat16())


def test_scale_zero_changes_nothing() -> None:
    deltas, _ = read_lora(pair(Q), SHAPES)
    weight = draw(6, 4, seed=3)
    assert torch.equal(merge(weight, deltas[f"{Q}.weight"], 0.0), weight)


class Counted:
    """A tensor of a file, and how often it was read."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.reads = tensor, 0

    @property
    def shape(self) -> Shape:
        return tuple(self.tensor.shape)

    def float(self) -> Tensor:
        self.reads += 1
        return self.tensor.float()


def test_a_file_is_sorted_by_its_header_and_read_tensor_by_tensor() -> None:
    tensors = {**pair(Q), **file(**{f"{Q}.diff_b": draw(6), "patch_embedding.diff": draw(3)})}
    lazy = {key: Counted(tensor) for key, tensor in tensors.items()}
    lora = sort_lora("it", lazy, 1.0, SHAPES)
    assert not any(stored.reads for stored in lazy.values())
    merged = add_loras(torch.zeros(6, 4), f"{Q}.weight", [lora])
    assert torch.equal(merged, draw(6, 2, seed=1) @ draw(2, 4, seed=2))
    assert {key for key, stored in lazy.items() if stored.reads} == pair(Q).keys()


def test_several_loras_are_added_in_order_and_the_sum_is_rounded_once() -> None:
    weight = draw(6, 4, seed=3).bfloat16()
    first = sort_lora("first", pair(Q), 0.5, SHAPES)
    second = sort_lora("second", file(**{f"{Q}.diff": draw(6, 4, seed=5)}), -2.0, SHAPES)
    merged = add_loras(weight, f"{Q}.weight", [first, second])
    exact = weight.float() + 0.5 * (draw(6, 2, seed=1) @ draw(2, 4, seed=2))
    assert merged.dtype == torch.float32
    assert torch.equal(merged, exact + -2.0 * draw(6, 4, seed=5))


def test_a_weight_that_no_lora_changes_is_left_as_it_is() -> None:
    weight = draw(6).half()
    lora = sort_lora("it", pair(Q), 1.0, SHAPES)
    assert add_loras(weight, f"{Q}.bias", [lora]) is weight


def test_adding_changes_neither_weight_nor_lora() -> None:
    weight, difference = torch.zeros(6, 4), torch.ones(6, 4)
    lora = sort_lora("it", file(**{f"{Q}.diff": difference}), 3.0, SHAPES)
    add_loras(weight, f"{Q}.weight", [lora, lora])
    assert not weight.any()
    assert torch.equal(difference, torch.ones(6, 4))


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({}, r"fits this model\.$"),
        ({f"{Q}.lora_up.weight": draw(6, 2)}, rf"{Q}\.lora_up\.weight: no {PREFIX} prefix"),
        (
            file(**{"blocks.7.x.diff": draw(1)}),
            r"blocks\.7\.x\.diff: the model has no blocks\.7\.x",
        ),
        (file(**{f"{Q}.alpha": draw(), f"{Q}.z": draw()}), r"alpha: alpha has no effect"),
    ],
    ids=["empty", "no prefix", "another model", "several"],
)
def test_a_lora_of_which_nothing_is_used_is_refused_with_the_first_reason(
    lora: dict[str, Tensor], reason: str
) -> None:
    with pytest.raises(WeightsCorrupt, match=rf"^Nothing of the LoRA it\.safetensors .*{reason}"):
        sort_lora("it.safetensors", lora, 1.0, SHAPES)


def test_the_summary_counts_what_is_used_and_why_the_rest_is_not() -> None:
    report = report_of(
        {
            **pair(Q),
            **file(**{f"{Q}.alpha": draw(), "blocks.0.norm3.alpha": draw(), f"{Q}.diff_m": draw()}),
            **file(**{"patch_embedding.diff": draw(6, 16, 1, 2, 2), "a.diff": draw(1)}),
        }
    )
    assert report.summary == (
        "2 of 7 keys used; 5 ignored: 2 x alpha has no effect, 2 x does not fit, 1 x unknown kind"
    )


def test_the_summary_of_a_lora_that_fits_has_no_complaint() -> None:
    assert report_of(pair(Q)).summary == "2 of 2 keys used"


def test_only_what_was_made_for_another_model_is_a_warning() -> None:
    patch = f"{PREFIX}patch_embedding.diff"
    lora = {**pair(Q), **file(**{f"{Q}.alpha": draw(), f"{Q}.diff_m": draw()})}
    report = report_of({**lora, patch: draw(6, 16, 1, 2, 2)})
    assert report.warnings == [f"{patch}: shape [6, 16, 1, 2, 2] does not fit [6, 36, 1, 2, 2]"]
    assert report.misfits.items() <= report.ignored.items()
