"""Step cache: leave out the blocks on steps whose timestep features hardly changed (TeaCache).

Liu et al. 2024 (arXiv 2411.19108): the relative change of the time modulation, corrected by a
polynomial, is added up; while the sum stays below a threshold, the blocks are not run and what they
added at the last computed step is added again.

The decision depends on the timesteps alone, so it is made once for the whole schedule, outside the
denoising loop and without any host sync in it. What is reused is kept per branch and dropped with
the window. (The reference keeps one counter for all branches on the class, which mixes branches and
windows as soon as a step has other than three forwards; see golden case 13.)

Axes: n tokens, d width.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from infinitetalk.sampling.guidance import Branch

WARMUP_STEPS = 5  # always computed, at the start of every window

# Highest power first; fitted to Wan2.1-I2V at each size by the authors of TeaCache.
COEFFICIENTS_480 = (257151.496, -35422.9917, 1402.86849, -13.5890334, 0.132517977)
COEFFICIENTS_720 = (8107.0546, 2133.93892, -372.934672, 16.6203073, -0.0417769401)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Which steps of a schedule run the blocks."""

    is_computed: tuple[bool, ...]
    accumulated: tuple[float, ...]  # the summed change after each decision

    @property
    def skipped(self) -> int:
        return self.is_computed.count(False)


def compute_all(steps: int) -> StepPlan:
    """The plan without a cache."""
    return StepPlan((True,) * steps, (0.0,) * steps)


def plan_steps(
    modulations: Sequence[Tensor],
    threshold: float,
    coefficients: Sequence[float],
    forced: Collection[int] = (),
) -> StepPlan:
    """Decide for every step of a schedule.

    Args:
        modulations: the time modulation of each step (any shape).
        threshold: blocks are left out while the summed change is below it.
        coefficients: polynomial from relative change to change, highest power first.
        forced: steps, counted from 0, that are computed whatever changed, because a branch that
            was not run before has nothing yet to add again.
    """
    computed: list[bool] = []
    accumulated: list[float] = []
    total = 0.0
    for step, modulation in enumerate(modulations):
        if step >= WARMUP_STEPS:
            change = relative_change(modulation, modulations[step - 1])
            total += float(np.polyval(coefficients, change))
        is_small = total < threshold  # NaN is not
        computed.append(step < WARMUP_STEPS or step in forced or not is_small)
        total = 0.0 if computed[-1] else total
        accumulated.append(total)
    return StepPlan(tuple(computed), tuple(accumulated))


def relative_change(now: Tensor, before: Tensor) -> float:
    """Mean absolute change over the mean absolute value before."""
    return float((now - before).abs().mean() / before.abs().mean())


@dataclass(slots=True)
class ResidualCache:
    """What the blocks added at the last computed step, for each branch of one window."""

    plan: StepPlan
    _residuals: dict[Branch, Tensor] = field(default_factory=dict)

    def apply(
        self, branch: Branch, step: int, tokens: Tensor, blocks: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Tokens n d after the blocks: computed, or `tokens` plus the branch's last residual."""
        if not self.plan.is_computed[step]:
            return tokens + self._residuals[branch]
        out = blocks(tokens)
        if self.plan.skipped:
            self._residuals[branch] = torch.sub(out, tokens)
        return out
