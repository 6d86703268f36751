"""Resampling of a recording of any length: pieces that join to the one-shot result.

soxr HQ, which is what `librosa.resample` uses, without what importing librosa costs a process that
only reads a file: 3 s, 150 MB and a compiler. Ten seconds of a recording are in memory at once.
At the usual rates the result is the same within 1e-5 at any length (measured: 1e-6 over half an
hour). At rates that share no large divisor with the target, such as 47999 Hz, soxr rounds the
ratio and its one-shot result drifts, by 1e-4 within two minutes; the pieces start anew in time.
Axes: s samples.
"""

from collections.abc import Iterable, Iterator
from math import ceil, gcd

import numpy as np
import soxr

_PIECE_S = 10.0
_MARGIN_S = 0.25  # what a piece sees of its neighbours: far longer than the resampling filter


def resample(
    blocks: Iterable[np.ndarray], rate: int, target_rate: int = 16000
) -> Iterator[np.ndarray]:  # s -> s
    """Mono float32 blocks at `rate` Hz as blocks at `target_rate` Hz.

    Each piece starts at a sample that both rates have in common, and is resampled together with
    a margin on both sides, which is cut off again.
    """
    if rate == target_rate:
        yield from blocks
        return
    unit = gcd(rate, target_rate)
    step_in, step_out = rate // unit, target_rate // unit  # these spans last equally long
    piece, margin = (ceil(span * rate / step_in) * step_in for span in (_PIECE_S, _MARGIN_S))
    for before, core, around in _pieces(blocks, piece, margin):
        resampled = soxr.resample(around, rate, target_rate, quality="HQ")
        start = before // step_in * step_out
        # The last piece may end between two samples; the length is rounded up, as librosa does.
        length = -(-core * step_out // step_in)
        part = resampled[start : start + length]
        yield np.pad(part, (0, length - len(part)))


def _pieces(
    blocks: Iterable[np.ndarray], piece: int, margin: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(samples of margin before it, samples of the piece, the piece between its margins)."""
    held, before = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= before + piece + margin:
            yield before, piece, held[: before + piece + margin]
            held, before = held[before + piece - margin :], margin
    if len(held) > before:
        yield before, len(held) - before, held
