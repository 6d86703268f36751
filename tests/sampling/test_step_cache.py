"""The step cache: golden decisions are in tests/parity; here, what it may never do."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from infinitetalk.sampling.guidance import Branch
from infinitetalk.sampling.step_cache import (
    COEFFICIENTS_480,
    WARMUP_STEPS,
    ResidualCache,
    StepPlan,
    compute_all,
    plan_steps,
    relative_change,
)

LINE = (1.0, 0.0)  # the polynomial "change itself"
SKIP_LAST = StepPlan((True, False), (0.0, 0.0))


def modulations(*levels: float) -> list[Tensor]:
    return [torch.full((1, 6, 4), level) for level in levels]


def adds(amount: float) -> Callable[[Tensor], Tensor]:
    """Blocks that add something of their own."""
    return lambda tokens: tokens + amount


def never(tokens: Tensor) -> Tensor:
    raise AssertionError("a step that is left out ran the blocks")


def test_the_first_steps_of_a_window_are_always_computed() -> None:
    plan = plan_steps(modulations(*[1.0] * 12), 0.1, LINE)
    assert plan.is_computed == (True,) * WARMUP_STEPS + (False,) * 7


@pytest.mark.parametrize("steps", range(1, WARMUP_STEPS + 1))
def test_a_schedule_as_short_as_the_warm_up_skips_nothing(steps: int) -> None:
    assert plan_steps(modulations(*[1.0] * steps), 10.0, LINE) == compute_all(steps)


def test_changes_from_step_to_step_add_up_to_the_threshold_and_start_again() -> None:
    levels = [1.0] * WARMUP_STEPS + [1.1, 1.1 * 1.1, 1.1**3, 1.1**4]
    plan = plan_steps(modulations(*levels), 0.25, LINE)
    assert plan.is_computed[WARMUP_STEPS:] == (False, False, True, False)
    assert plan.accumulated[WARMUP_STEPS:] == pytest.approx((0.1, 0.2, 0.0, 0.1), abs=1e-5)
    assert plan.skipped == 3


def test_a_step_on_which_a_branch_begins_is_computed_and_the_sum_starts_again() -> None:
    levels = [1.0] * WARMUP_STEPS + [1.1, 1.1 * 1.1, 1.1**3, 1.1**4]
    plan = plan_steps(modulations(*levels), 0.25, LINE, forced={WARMUP_STEPS + 1})
    assert plan.is_computed[WARMUP_STEPS:] == (False, True, False, False)
    assert plan.accumulated[WARMUP_STEPS:] == pytest.approx((0.1, 0.0, 0.1, 0.2), abs=1e-5)


def test_a_change_is_relative_to_the_step_before() -> None:
    assert relative_change(torch.tensor([2.2, -1.8]), torch.tensor([2.0, -2.0])) == pytest.approx(
        0.1
    )


def test_a_threshold_of_zero_computes_everything() -> None:
    assert plan_steps(modulations(*[1.0] * 9), 0.0, COEFFICIENTS_480).skipped == 0


def test_a_skipped_step_adds_what_the_blocks_added_last() -> None:
    cache = ResidualCache(SKIP_LAST)
    cache.apply(Branch.COND, 0, torch.zeros(3), adds(2.0))
    skipped = cache.apply(Branch.COND, 1, torch.full((3,), 10.0), never)
    assert torch.equal(skipped, torch.full((3,), 12.0))


def test_branches_never_mix() -> None:
    cache = ResidualCache(SKIP_LAST)
    for amount, branch in enumerate(Branch):
        cache.apply(branch, 0, torch.zeros(3), adds(float(amount)))
    for amount, branch in reversed(list(enumerate(Branch))):
        reused = cache.apply(branch, 1, torch.zeros(3), never)
        assert torch.equal(reused, torch.full((3,), float(amount)))


def test_windows_never_inherit() -> None:
    before = ResidualCache(SKIP_LAST)
    before.apply(Branch.COND, 0, torch.zeros(3), adds(1.0))
    with pytest.raises(KeyError):
        ResidualCache(SKIP_LAST).apply(Branch.COND, 1, torch.zeros(3), never)


def test_a_recomputed_step_replaces_what_is_reused() -> None:
    cache = ResidualCache(StepPlan((True, True, False), (0.0,) * 3))
    cache.apply(Branch.COND, 0, torch.zeros(3), adds(1.0))
    cache.apply(Branch.COND, 1, torch.zeros(3), adds(5.0))
    assert torch.equal(cache.apply(Branch.COND, 2, torch.zeros(3), never), torch.full((3,), 5.0))


def test_what_is_kept_does_not_alias_what_is_returned() -> None:
    cache = ResidualCache(SKIP_LAST)
    out = cache.apply(Branch.COND, 0, torch.zeros(3), adds(1.0))
    out += 100
    assert torch.equal(cache.apply(Branch.COND, 1, torch.zeros(3), never), torch.ones(3))


def test_nothing_is_kept_when_no_step_is_left_out() -> None:
    cache = ResidualCache(compute_all(2))
    cache.apply(Branch.COND, 0, torch.zeros(3), adds(1.0))
    assert not cache._residuals


def test_a_change_that_is_no_number_skips_nothing() -> None:
    plan = plan_steps([torch.zeros(4)] * 12, threshold=1.0, coefficients=(1.0, 0.0))
    assert plan.skipped == 0
