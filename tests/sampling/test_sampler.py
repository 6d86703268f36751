from itertools import pairwise

import pytest
import torch
from torch import Tensor

from infinitetalk.errors import Canceled
from infinitetalk.sampling.guidance import Branch
from infinitetalk.sampling.sampler import Guidance, denoise
from infinitetalk.sampling.schedule import timesteps
from infinitetalk.spec import Apg

NOISE = torch.randn(1, 16, 4, 2, 2, generator=torch.Generator().manual_seed(2))
MOTION = torch.full((1, 16, 2, 2, 2), 0.5)
TIMES = tuple(timesteps(5, 3.0).tolist())
PLAIN = Guidance(1.0, 1.0)


class Network:
    """Predicts the straight line from a noisy latent to a target; remembers what it was shown."""

    def __init__(self, target: Tensor | float = 0.0) -> None:
        self.target = target
        self.seen: list[tuple[Branch, int, Tensor]] = []

    def __call__(self, branch: Branch, step: int, latent: Tensor) -> Tensor:
        self.seen.append((branch, step, latent.clone()))
        return (latent - self.target) / (TIMES[step] / 1000)


def run(network: Network, guidance: Guidance = PLAIN, **other: object) -> Tensor:
    options = {"noise": NOISE, "motion": MOTION, "on_step": lambda _: None, **other}
    return denoise(network, times=TIMES, guidance=guidance, **options)  # type: ignore[arg-type]


def test_the_network_always_sees_the_motion_frames_clean() -> None:
    network = Network()
    run(network)
    assert len(network.seen) == 5
    assert all(torch.equal(latent[:, :, :2], MOTION) for _, _, latent in network.seen)


def test_the_result_begins_with_exactly_the_motion_frames() -> None:
    assert torch.equal(run(Network())[:, :, :2], MOTION)


def test_the_rest_starts_as_noise_and_arrives_where_the_network_points() -> None:
    network = Network(target=0.25)
    result = run(network)
    assert torch.equal(network.seen[0][2][:, :, 2:], NOISE[:, :, 2:])
    assert torch.allclose(result[:, :, 2:], torch.full_like(result[:, :, 2:], 0.25), atol=1e-5)


def test_the_noise_passed_in_is_left_alone() -> None:
    before = NOISE.clone()
    run(Network())
    assert torch.equal(NOISE, before)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 2.0), (5.0, 1.0), (5.0, 4.0)])
def test_every_branch_of_a_step_sees_the_same_latent_in_the_stated_order(
    scales: tuple[float, float],
) -> None:
    network, guidance = Network(), Guidance(*scales)
    run(network, guidance)
    steps = [network.seen[i :: len(guidance.branches)] for i in range(len(guidance.branches))]
    for branch, rows in zip(guidance.branches, steps, strict=True):
        assert [(b, step) for b, step, _ in rows] == [(branch, step) for step in range(5)]
        assert all(torch.equal(r[2], c[2]) for r, c in zip(rows, steps[0], strict=True))


BOTH, AUDIO_FREE = ("cond", "drop_text", "uncond"), ("cond", "drop_text")


@pytest.mark.parametrize(
    ("scales", "interval", "forwards"),
    [
        ((1.0, 2.0), (1, 5), [("cond", "drop_audio")] * 5),
        ((1.0, 2.0), (2, 3), [("cond",), *[("cond", "drop_audio")] * 2, ("cond",), ("cond",)]),
        ((5.0, 4.0), (1, 1), [BOTH, *[AUDIO_FREE] * 4]),
        ((5.0, 4.0), (5, 5), [*[AUDIO_FREE] * 4, BOTH]),
        ((5.0, 1.0), (2, 3), [AUDIO_FREE] * 5),
        ((1.0, 1.0), (2, 3), [("cond",)] * 5),
    ],
)
def test_outside_the_interval_only_the_forwards_without_audio_guidance_are_run(
    scales: tuple[float, float], interval: tuple[int, int], forwards: list[tuple[str, ...]]
) -> None:
    network = Network()
    run(network, Guidance(*scales, audio_interval=interval))
    assert [
        tuple(str(branch) for branch, at, _ in network.seen if at == step) for step in range(5)
    ] == forwards


def moves(guidance: Guidance) -> list[Tensor]:
    """How far each step goes where every branch keeps its opinion, whatever the latent is."""
    generator = torch.Generator().manual_seed(3)
    opinions = {branch: torch.randn(NOISE.shape, generator=generator) for branch in Branch}
    latents: list[Tensor] = []

    def predict(branch: Branch, step: int, latent: Tensor) -> Tensor:
        if branch is Branch.COND:
            latents.append(latent)
        return opinions[branch]

    options = {"times": TIMES, "guidance": guidance, "on_step": lambda _: None}
    latents.append(denoise(predict, NOISE, MOTION, **options))  # type: ignore[arg-type]
    return [after - before for before, after in pairwise(latents)]


@pytest.mark.parametrize("apg", [None, Apg(momentum=-0.75, norm_threshold=1.0)], ids=["cfg", "apg"])
@pytest.mark.parametrize("text_scale", [1.0, 5.0])
def test_a_step_outside_the_interval_is_one_with_an_audio_scale_of_one(
    text_scale: float, apg: Apg | None
) -> None:
    """What is remembered of the text's direction goes on meanwhile."""
    interval = moves(Guidance(text_scale, 4.0, apg, audio_interval=(1, 2)))
    on, off = (moves(Guidance(text_scale, scale, apg)) for scale in (4.0, 1.0))
    for found, expected, other in zip(interval, on[:2] + off[2:], off[:2] + on[2:], strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, other, atol=1e-3)


def test_a_branch_is_new_where_the_interval_begins() -> None:
    guidance = Guidance(1.0, 2.0, audio_interval=(3, 4))
    assert guidance.steps_with_new_branch(5) == {2}
    assert Guidance(1.0, 1.0, audio_interval=(3, 4)).steps_with_new_branch(5) == set()
    assert Guidance(1.0, 2.0).steps_with_new_branch(5) == set()


def test_steps_are_counted_from_one() -> None:
    done: list[int] = []
    run(Network(), on_step=done.append)
    assert done == [1, 2, 3, 4, 5]


def test_an_exception_from_the_watcher_ends_the_sampling_at_that_step() -> None:
    def cancel_at_two(step: int) -> None:
        if step == 2:
            raise Canceled("The job was canceled.")

    network = Network()
    with pytest.raises(Canceled):
        run(network, on_step=cancel_at_two)
    assert [step for _, step, _ in network.seen] == [0, 1]


def test_every_run_starts_with_fresh_guidance_averages() -> None:
    guidance = Guidance(5.0, 4.0, Apg(momentum=-0.75, norm_threshold=1.0))
    assert torch.equal(run(Network(0.1), guidance), run(Network(0.1), guidance))


def test_motion_that_fills_the_window_is_the_result() -> None:
    motion = torch.ones_like(NOISE)
    assert torch.equal(run(Network(), motion=motion), motion)


@pytest.mark.parametrize("apg", [None, Apg()], ids=["cfg", "apg"])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 2.0), (5.0, 1.0), (5.0, 4.0)])
def test_no_step_waits_for_a_value_from_the_device(
    scales: tuple[float, float], apg: Apg | None
) -> None:
    """Tensors without values cannot be looked at: a branch on one, or its number, would raise."""
    network, meta = Network(), {"noise": NOISE.to("meta"), "motion": MOTION.to("meta")}
    assert run(network, Guidance(*scales, apg, audio_interval=(2, 3)), **meta).is_meta
    assert network.seen[-1][1] == 4
