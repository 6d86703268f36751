"""How far the model of `roofline` and `job_cost` is off where something was measured.

All of it was measured on an H200, so it says nothing of how well a share of the datasheet's rate
carries over to another GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.job_cost import window_of
from benchmarks.measured import (
    BASIS,
    CALIBRATION,
    FORWARDS,
    REFERENCE_FORWARD,
    WINDOWS,
    Arithmetic,
    Attention,
    Code,
)
from benchmarks.roofline import Way, gpu_called, predict_forward
from infinitetalk.spec import PRESETS


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
            what = f"a forward, {forward.resolution}, {way.arithmetic}, {way.code}"
            what += f", {way.attention} attention"
            yield Comparison(what, predicted, forward.seconds, note)
    yield _reference()
    yield from _windows()


def _reference() -> Comparison:
    """The original's forward: as ours operation after operation, with another attention kernel."""
    without_cudnn = replace(gpu_called(BASIS), capability=(8, 9))
    way = Way(Arithmetic.BF16, Attention.LIBRARY, Code.EAGER)
    predicted = predict_forward(without_cudnn, "480p", way).high
    note = "it also rotates in complex float64 and computes text keys in every forward"
    return Comparison("a forward of the original", predicted, REFERENCE_FORWARD, note)


def _windows() -> Iterator[Comparison]:
    """Steady windows of jobs, from forwards that are predicted too."""
    for found in WINDOWS:
        gpu, preset = gpu_called(found.gpu), PRESETS[found.preset]
        way = Way(found.arithmetic, found.attention, found.code)
        forward = predict_forward(gpu, found.resolution, way)
        predicted = window_of(forward, gpu, preset, found.resolution, found.vae).low
        what = f"a window of {preset.name}, {found.resolution}, {way.arithmetic}, {way.code}"
        yield Comparison(f"{what}, {way.attention} attention", predicted, found.seconds)
