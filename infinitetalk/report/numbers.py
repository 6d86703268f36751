"""The figures of a report: what the sheet shows, as numbers and as JSON.

How well mouth and voice agree is told by the correlation of the mouth's motion with the loudness,
frame by frame, and by the shift at which it is highest. Random motion has a correlation about 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infinitetalk.report.measure import Measurements
from infinitetalk.spec import FPS

MAX_LAG = 10  # frames
QUIET_DB = 25.0  # so far below the loud parts nobody speaks
_FLOOR_DB = -60.0  # what is quieter moves no mouth
_SMOOTH = 3  # frames
_STILL = 1e-6  # a standard deviation that is rounding alone


@dataclass(frozen=True, slots=True)
class Mouth:
    """One mouth and the voice; None where there is too little to compare."""

    correlation: float | None  # of its motion with the loudness, in [-1, 1]
    best_correlation: float | None  # with the picture shifted
    lag_s: float | None  # by so much; positive: the picture is late
    motion_in_speech: float | None  # mean, in levels of 255 a frame
    motion_in_silence: float | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """Everything on the sheet."""

    name: str
    codec: str
    height: int
    width: int
    frames: int
    seconds: float
    mouths: tuple[Mouth, ...]
    colour_drift: tuple[float, float, float]  # red, green, blue: last second less the first one
    largest_drift: float  # of any channel in any second from the first, in levels of 255
    stages: Mapping[str, float] | None  # seconds; None where nobody knows

    def to_json(self, measured: Measurements) -> dict[str, Any]:
        """These, and what was measured, second by second."""
        return {**asdict(self), "by_second": _by_second(measured)}


def numbers_of(measured: Measurements, stages: Mapping[str, float] | None) -> Numbers:
    """The figures of a video.

    Args:
        stages: seconds that its job spent in each stage.
    """
    drift = drift_of(measured.colour)
    seconds = _means(drift)
    return Numbers(
        name=measured.name,
        codec=measured.codec,
        height=measured.height,
        width=measured.width,
        frames=measured.frames,
        seconds=measured.seconds,
        mouths=tuple(_mouth(motion, measured.loudness) for motion in measured.motion),
        colour_drift=(_figure(seconds[-1, 0]), _figure(seconds[-1, 1]), _figure(seconds[-1, 2])),
        largest_drift=_figure(np.abs(seconds).max()),
        stages=stages,
    )


def drift_of(colour: np.ndarray) -> np.ndarray:  # f 3 -> f 3
    """How far the mean colours are from those of the first second."""
    return colour - colour[:FPS].mean(axis=0)


def _mouth(motion: np.ndarray, loudness: np.ndarray | None) -> Mouth:
    if loudness is None or len(motion) <= FPS + MAX_LAG:
        return Mouth(None, None, None, None, None)
    moved, heard = motion[1:], np.maximum(loudness, _FLOOR_DB)[1:]  # the first has none before it
    lags = range(-MAX_LAG, MAX_LAG + 1)
    found = {lag: _correlation(_smooth(moved), _smooth(heard), lag) for lag in lags}
    known = {lag: value for lag, value in found.items() if value is not None}
    best = max(known, key=lambda lag: known[lag], default=None)
    is_speech = heard > np.percentile(heard, 95) - QUIET_DB
    return Mouth(
        correlation=found[0],
        best_correlation=None if best is None else known[best],
        lag_s=None if best is None else best / FPS,
        motion_in_speech=_mean(moved[is_speech]),
        motion_in_silence=_mean(moved[~is_speech]),
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    held = np.pad(values, _SMOOTH // 2, mode="edge")
    return np.convolve(held, np.ones(_SMOOTH) / _SMOOTH, "valid")


def _correlation(moved: np.ndarray, heard: np.ndarray, lag: int) -> float | None:
    """Pearson's, of the motion `lag` frames after the voice."""
    count = len(moved) - abs(lag)
    later = moved[max(lag, 0) :][:count]
    earlier = heard[max(-lag, 0) :][:count]
    if min(later.std(), earlier.std()) < _STILL:
        return None
    return _figure(np.corrcoef(later, earlier)[0, 1])


def _by_second(measured: Measurements) -> list[dict[str, float | list[float] | None]]:
    loudness = None if measured.loudness is None else _means(measured.loudness[:, None])[:, 0]
    motion = _means(np.stack(measured.motion, axis=1))
    return [
        {
            "loudness_db": None if loudness is None else _figure(loudness[second]),
            "motion": [_figure(value) for value in motion[second]],
            "red_green_blue": [_figure(value) for value in colour],
        }
        for second, colour in enumerate(_means(measured.colour))
    ]


def _means(values: np.ndarray) -> np.ndarray:  # f c -> seconds c
    """Means of whole seconds; a rest counts as one where it is half a second or all there is."""
    count = max(1, round(len(values) / FPS))
    return np.stack([part.mean(axis=0) for part in np.array_split(values, count)])


def _mean(values: np.ndarray) -> float | None:
    return _figure(values.mean()) if len(values) else None


def _figure(value: float) -> float:
    return round(float(value), 3)
