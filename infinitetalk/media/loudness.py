"""Loudness of speech: ITU-R BS.1770 integrated loudness and the model's input scale.

The K-weighting is pyloudnorm's: two biquads of the Audio EQ Cookbook (R. Bristow-Johnson), a high
shelf and a high pass. One streaming pass: memory grows by 8 bytes for every 0.1 s.
Axes: s samples at 16 kHz.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, inf, isfinite, log10, pi, sin, sqrt

import numpy as np
from scipy.signal import lfilter

TARGET_LUFS = -23.0  # EBU R 128, what the audio encoder was fed with
SHORTEST_SAMPLES = 6400  # one loudness block, 0.4 s

_RATE = 16000  # Hz
_HOP = 1600  # samples; blocks of four hops overlap by 75 %
_HOPS = 4
_OFFSET = -0.691  # LUFS, cancels the gain of the K-weighting at 1 kHz
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_SILENCE = 100.0  # |LUFS| above this is no loudness to correct
_EPSILON = 1e-7  # of wav2vec2's feature extractor


@dataclass(frozen=True, slots=True)
class SpeechLevel:
    """One pass over a whole track: its loudness, and mean and variance of its samples."""

    lufs: float  # -inf for silence
    mean: float
    variance: float

    @property
    def gain(self) -> float:
        """The factor that brings the track to -23 LUFS; 1 for silence."""
        return 1.0 if abs(self.lufs) > _SILENCE else 10 ** ((TARGET_LUFS - self.lufs) / 20)


def measure(blocks: Iterable[np.ndarray]) -> SpeechLevel:  # of s
    """The level of a track from its blocks at 16 kHz, in order and of any lengths.

    The track has at least `SHORTEST_SAMPLES`; the caller pads a shorter one.
    """
    weighting = _KWeighting()
    hops, rest = [np.zeros(0)], np.zeros(0)
    samples, total, squares = 0, 0.0, 0.0
    for block in blocks:
        wave = block.astype(np.float64)
        samples += len(wave)
        total += float(wave.sum())
        squares += float(wave @ wave)
        rest = np.concatenate([rest, weighting(wave) ** 2])
        whole = len(rest) // _HOP * _HOP
        hops.append(rest[:whole].reshape(-1, _HOP).sum(axis=1))
        rest = rest[whole:]
    assert samples >= SHORTEST_SAMPLES, "speech shorter than a loudness block must be padded"
    hops.append(np.array([rest.sum()]))
    mean = total / samples
    variance = max(squares / samples - mean**2, 0.0)
    return SpeechLevel(_integrated(np.concatenate(hops), samples), mean, variance)


def normalise(samples: np.ndarray, level: SpeechLevel) -> np.ndarray:  # s -> s float32
    """Part of a track at -23 LUFS, then with the whole track's mean 0 and variance 1.

    The gain may push samples over 1: they are not clipped.
    """
    gain = level.gain
    deviation = sqrt(gain**2 * level.variance + _EPSILON)
    return ((samples * gain - level.mean * gain) / deviation).astype(np.float32)


class _KWeighting:
    """The two filters with their state between blocks."""

    def __init__(self) -> None:
        self._filters = (_high_shelf(4.0, 1 / sqrt(2), 1500.0), _high_pass(0.5, 38.0))
        self._states = [np.zeros(2), np.zeros(2)]

    def __call__(self, wave: np.ndarray) -> np.ndarray:  # s -> s
        for index, (b, a) in enumerate(self._filters):
            wave, self._states[index] = lfilter(b, a, wave, zi=self._states[index])
        return wave


def _high_shelf(gain_db: float, q: float, frequency: float) -> tuple[np.ndarray, np.ndarray]:
    amp, w0 = 10 ** (gain_db / 40), 2 * pi * frequency / _RATE
    alpha, c, root = sin(w0) / (2 * q), cos(w0), sqrt(10 ** (gain_db / 40))
    b0 = amp * ((amp + 1) + (amp - 1) * c + 2 * root * alpha)
    b1 = -2 * amp * ((amp - 1) + (amp + 1) * c)
    b2 = amp * ((amp + 1) + (amp - 1) * c - 2 * root * alpha)
    a0 = (amp + 1) - (amp - 1) * c + 2 * root * alpha
    a1 = 2 * ((amp - 1) - (amp + 1) * c)
    a2 = (amp + 1) - (amp - 1) * c - 2 * root * alpha
    return np.array([b0, b1, b2]) / a0, np.array([a0, a1, a2]) / a0


def _high_pass(q: float, frequency: float) -> tuple[np.ndarray, np.ndarray]:
    w0 = 2 * pi * frequency / _RATE
    alpha, c = sin(w0) / (2 * q), cos(w0)
    b = np.array([(1 + c) / 2, -(1 + c), (1 + c) / 2])
    a = np.array([1 + alpha, -2 * c, 1 - alpha])
    return b / a[0], a / a[0]


def _integrated(hops: np.ndarray, samples: int) -> float:
    """LUFS from the K-weighted energy of every 0.1 s; the last hop may be shorter."""
    count = round((samples / _RATE - 0.4) / 0.1) + 1
    padded = np.concatenate([hops, np.zeros(_HOPS)])
    # A block that runs past the end is divided by its full length all the same.
    energy = np.sum([padded[shift : shift + count] for shift in range(_HOPS)], axis=0)
    power = energy / (_HOPS * _HOP)
    power = power[power > 10 ** ((_ABSOLUTE_GATE - _OFFSET) / 10)]
    if not len(power):
        return -inf
    gate = _lufs(power.mean()) + _RELATIVE_GATE
    loud = power[power > 10 ** ((gate - _OFFSET) / 10)]
    lufs = _lufs(loud.mean())
    assert isfinite(lufs)
    return lufs


def _lufs(power: float) -> float:
    return _OFFSET + 10 * log10(power)
