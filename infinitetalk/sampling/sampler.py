"""Denoising of one window: Euler steps from noise to a latent, with the motion frames held clean.

InfiniteTalk (arXiv 2508.14033) continues a video by writing the encoded last frames of the previous
window into the first latent frames before every step; the network sees them clean and fills in what
follows.

Axes: b batch (1), c channels, t latent frames, h w latent size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from torch import Tensor

from infinitetalk.sampling.guidance import Branch, ProjectedGuidance, branches, combine
from infinitetalk.sampling.schedule import euler_step
from infinitetalk.spec import Apg, GenerationSpec

Predict = Callable[[Branch, int, Tensor], Tensor]
"""(branch, step, latent b c t h w) -> raw prediction of the same shape."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """How the branches are combined, and in which steps.

    Guidance of the audio may be limited to an interval of the steps (Kynkäänniemi et al. 2024,
    arXiv 2404.07724); the others are taken with an audio scale of 1, which needs a forward less.
    """

    text_scale: float
    audio_scale: float
    apg: Apg | None = None
    audio_interval: tuple[int, int] | None = None  # first and last step, from 1 on; None = all
    branches: tuple[Branch, ...] = field(init=False)  # all that some step needs

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", branches(self.text_scale, self.audio_scale))

    @classmethod
    def of(cls, spec: GenerationSpec) -> Self:
        interval = spec.audio_guidance_interval
        return cls(spec.text_guidance, spec.audio_guidance, spec.apg, interval)

    def branches_at(self, step: int) -> tuple[Branch, ...]:
        """The forwards of a step, counted from 0, in the order they are run."""
        if self.audio_interval is None:
            return self.branches
        first, last = self.audio_interval
        return self.branches if first <= step + 1 <= last else branches(self.text_scale, 1.0)

    def steps_with_new_branch(self, steps: int) -> frozenset[int]:
        """Steps, counted from 0, with a forward that the step before did not have."""
        sets = [set(self.branches_at(step)) for step in range(steps)]
        return frozenset(step for step in range(1, steps) if sets[step] - sets[step - 1])


def denoise(
    predict: Predict,
    noise: Tensor,
    motion: Tensor,
    times: tuple[float, ...],
    guidance: Guidance,
    *,
    on_step: Callable[[int], None],
) -> Tensor:
    """Noise b c t h w to a clean latent whose first frames are exactly `motion`.

    Args:
        motion: clean latent of the motion frames, b c t' h w with t' <= t.
        times: steps + 1 falling timesteps, the last one 0.
        on_step: told the number of steps done; may raise `Canceled`, the only way out.
    """
    latent = noise
    projected = ProjectedGuidance(guidance.apg) if guidance.apg else None
    mix = projected.combine if projected else combine
    for step, (t, t_next) in enumerate(pairwise(times)):
        latent = _with_motion(latent, motion)
        predictions = {b: predict(b, step, latent) for b in guidance.branches_at(step)}
        guided = mix(predictions, guidance.text_scale, guidance.audio_scale)
        latent = euler_step(latent, guided, t, t_next)
        on_step(step + 1)
    return _with_motion(latent, motion)


def _with_motion(latent: Tensor, motion: Tensor) -> Tensor:
    latent = latent.clone()
    latent[:, :, : motion.shape[2]] = motion
    return latent
