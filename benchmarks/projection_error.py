"""How far the model of `roofline` and `job_cost` is off where something was measured.

All of it was measured on an H200, so it says nothing of how well a share of the datasheet's rate
carries over to another GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.job_cost import window_overhead_s
from benchmarks.measured import (
    BASIS,
    CALIBRATION,
    FORWARDS,
    REFERENCE_FORWARD,
    SMALL_CARD_FORWARDS,
    SMALL_CARD_WINDOW,
    SMALL_CARD_WINDOWS,
    VAE_ENCODE_81,
    Arithmetic,
    Attention,
    Code,
)
from benchmarks.roofline import FULL, Way, gpu_called, predict_forward


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure as it is predicted and as it was measured, seconds."""

    what: str
    predicted: float
    measured: float
    note: str = ""

    @property
    def error(self) -> float:
        """Relative; negative where the model is too fast."""
        return self.predicted / self.measured - 1


def comparisons() -> Iterator[Comparison]:
    """Everything that was measured and can be predicted."""
    basis = gpu_called(BASIS)
    for forward in FORWARDS:
        if forward.gpu == BASIS:
            way = Way(forward.arithmetic, forward.attention, forward.code)
            predicted = predict_forward(basis, forward.resolution, way).low
            note = "fitted to this one" if forward is CALIBRATION else ""
            what = f"a forward, {way.arithmetic}, {way.code}"
            yield Comparison(what, predicted, forward.seconds, note)
    yield _reference()
    yield _small_card()


def _reference() -> Comparison:
    """The original's forward: as ours operation after operation, with another attention kernel."""
    without_cudnn = replace(gpu_called(BASIS), has_fast_attention=False)
    way = Way(Arithmetic.BF16, Attention.LIBRARY, Code.EAGER)
    predicted = predict_forward(without_cudnn, "480p", way).high
    note = "it also rotates in complex float64 and computes text keys in every forward"
    return Comparison("a forward of the original", predicted, REFERENCE_FORWARD, note)


def _small_card() -> Comparison:
    way = Way(Arithmetic.FP8, Attention.LIBRARY, Code.EAGER)
    forward = predict_forward(gpu_called(BASIS), "480p", way).low
    window = SMALL_CARD_FORWARDS * forward + window_overhead_s(FULL)
    predicted = window + VAE_ENCODE_81 / SMALL_CARD_WINDOWS
    note = "encoders and the writing of frames are not in the model"
    return Comparison("a window of 4 forwards, fp8, eager", predicted, SMALL_CARD_WINDOW, note)
