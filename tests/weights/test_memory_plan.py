import pytest
import torch

from infinitetalk.spec import PRESETS
from infinitetalk.weights.memory_plan import MemoryPlan, plan_memory

CPU = torch.device("cpu")


def test_the_full_model_needs_what_its_parameters_add_up_to() -> None:
    """16.4 + 2.5 billion of the transformer and 5.7 of the text encoder at 2 bytes; 0.63 of the
    image encoder, 0.13 of the VAE and 0.09 of the speech encoder at 4."""
    plan = plan_memory("best", torch.bfloat16, CPU)
    assert plan.weights == pytest.approx((24.56e9 * 2 + 0.85e9 * 4) / 2**30, rel=0.01)


@pytest.mark.parametrize("preset", PRESETS)
def test_float32_needs_more_than_bfloat16(preset: str) -> None:
    half, full = (plan_memory(preset, dtype, CPU) for dtype in (torch.bfloat16, torch.float32))
    assert full.weights > half.weights
    assert full.working > half.working > 0


@pytest.mark.parametrize("preset", ["tiny", "demo"])
def test_the_small_models_fit_any_machine_that_runs_the_tests(preset: str) -> None:
    plan = plan_memory(preset, torch.float32, CPU)
    assert plan.fits
    assert plan.weights + plan.working < 1


def test_the_sentence_says_whether_it_fits_and_in_what() -> None:
    assert "does not fit in 16.0 GiB" in MemoryPlan("best", 40.0, 8.0, 16.0).sentence
    assert "fits, everything resident in 80.0 GiB" in MemoryPlan("best", 40.0, 8.0, 80.0).sentence
