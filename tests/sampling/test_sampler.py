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
