import pytest
import torch

from infinitetalk.sampling.schedule import add_noise, euler_step, timesteps
from infinitetalk.spec import PRESETS

SHIFTS = sorted({shift for preset in PRESETS.values() for shift in preset.shift.values()})


@pytest.mark.parametrize("shift", [*SHIFTS, 0.1, 20.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 40, 60])
def test_times_fall_strictly_from_pure_noise_to_zero(steps: int, shift: float) -> None:
    times = timesteps(steps, shift)
    assert (len(times), times.dtype) == (steps + 1, torch.float32)
    assert times[0].item() == pytest.approx(1000, abs=1e-3)
    assert times[-1].item() == 0.0
    assert (times.diff() < 0).all()


def test_a_larger_shift_spends_more_steps_on_noisy_latents() -> None:
    assert (timesteps(8, 7.0)[1:-1] > timesteps(8, 2.0)[1:-1]).all()


def test_shift_one_is_even_spacing_down_to_one() -> None:
    assert torch.allclose(timesteps(4, 1.0), torch.tensor([1000.0, 667, 334, 1, 0]))


def test_one_step_with_the_true_velocity_undoes_the_noise() -> None:
    clean, noise = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noisy = add_noise(clean, noise, 700.0)
    prediction = clean - noise  # the network predicts the negative velocity
    assert torch.allclose(euler_step(noisy, -prediction, 700.0, 0.0), clean, atol=1e-6)


def test_noise_level_one_is_noise_and_zero_is_the_latent() -> None:
    latent, noise = torch.ones(3), torch.zeros(3)
    assert torch.equal(add_noise(latent, noise, 1000.0), noise)
    assert torch.equal(add_noise(latent, noise, 0.0), latent)
