"""Classifier-free guidance over two conditions, text and audio, with one to three forwards a step.

InfiniteTalk (arXiv 2508.14033) guides text and audio apart. With c the full prediction, n without
text, u without both and d without audio only:

    both scales 1        c
    text scale 1         d + a (c - d)
    audio scale 1        n + s (c - n)
    otherwise            u + s (c - n) + a (n - u)

The reference always runs the second or fourth row; the first and third give what those would, with
a forward less.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from infinitetalk.spec import Apg


class Branch(StrEnum):
    """A forward pass of one step, by what it is conditioned on besides the image."""

    COND = "cond"  # text and audio
    DROP_TEXT = "drop_text"  # negative text, audio
    DROP_AUDIO = "drop_audio"  # text, silence
    UNCOND = "uncond"  # negative text, silence

    @property
    def has_text(self) -> bool:
        return self in (Branch.COND, Branch.DROP_AUDIO)

    @property
    def has_audio(self) -> bool:
        return self in (Branch.COND, Branch.DROP_TEXT)


def _is_one(scale: float) -> bool:
    return math.isclose(scale, 1.0)


def branches(text_scale: float, audio_scale: float) -> tuple[Branch, ...]:
    """The forwards that these scales need, in the order they are run."""
    if _is_one(text_scale) and _is_one(audio_scale):
        return (Branch.COND,)
    if _is_one(text_scale):
        return (Branch.COND, Branch.DROP_AUDIO)
    if _is_one(audio_scale):
        return (Branch.COND, Branch.DROP_TEXT)
    return (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)


Predictions = Mapping[Branch, Tensor]


def combine(predictions: Predictions, text_scale: float, audio_scale: float) -> Tensor:
    """Guided prediction from the branches of `branches(text_scale, audio_scale)`."""
    c = predictions[Branch.COND]
    if Branch.UNCOND in predictions:
        n, u = predictions[Branch.DROP_TEXT], predictions[Branch.UNCOND]
        return u + text_scale * (c - n) + audio_scale * (n - u)
    if Branch.DROP_AUDIO in predictions:
        d = predictions[Branch.DROP_AUDIO]
        return d + audio_scale * (c - d)
    if Branch.DROP_TEXT in predictions:
        n = predictions[Branch.DROP_TEXT]
        return n + text_scale * (c - n)
    return c


@dataclass(slots=True)
class ProjectedGuidance:
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416); one per window.

    Of each guidance direction only the part orthogonal to the full prediction is used, after a
    running average with negative momentum and a cap on its norm: strong guidance without the
    over-saturation. The average is kept apart for text and audio.
    """

    settings: Apg
    _averages: dict[Branch, Tensor] = field(default_factory=dict)

    def combine(self, predictions: Predictions, text_scale: float, audio_scale: float) -> Tensor:
        """Guided prediction, in place of the plain `combine`."""
        c = predictions[Branch.COND]
        if Branch.UNCOND in predictions:
            n, u = predictions[Branch.DROP_TEXT], predictions[Branch.UNCOND]
            text = self._direction(Branch.DROP_TEXT, c - n, c)
            audio = self._direction(Branch.UNCOND, n - u, c)
            return c + (text_scale - 1) * text + (audio_scale - 1) * audio
        if Branch.DROP_AUDIO in predictions:
            audio = self._direction(Branch.DROP_AUDIO, c - predictions[Branch.DROP_AUDIO], c)
            return c + (audio_scale - 1) * audio
        if Branch.DROP_TEXT in predictions:
            text = self._direction(Branch.DROP_TEXT, c - predictions[Branch.DROP_TEXT], c)
            return c + (text_scale - 1) * text
        return c

    def _direction(self, key: Branch, difference: Tensor, reference: Tensor) -> Tensor:
        average = difference
        if key in self._averages:
            average = difference + self.settings.momentum * self._averages[key]
        self._averages[key] = average  # the average itself is neither capped nor projected
        scale = (self.settings.norm_threshold / average.norm()).clamp(max=1.0)
        return _orthogonal(average * scale, reference)


def _orthogonal(x: Tensor, reference: Tensor) -> Tensor:
    """x without its part along `reference`, in double precision over all elements."""
    a, b = x.double(), reference.double()
    return (a - (a * b).sum() / (b * b).sum() * b).to(x.dtype)
