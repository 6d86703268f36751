"""Speech as the model hears it: embedding rows of any window, computed as they are needed.

Up to 60 s the whole track is embedded at once, as in the reference. A longer one is embedded in
pieces of 60 s that overlap by 10 s, of which each gives the rows it sees with at least 5 s on both
sides; two pieces are held at a time, so memory does not grow with the length. What that changes is
measured in benchmarks/RESULTS.md ("speech in pieces").

Axes: f video frames, w window entries (5), l encoder layers, c channels, s samples at 16 kHz.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.media.loudness import SHORTEST_SAMPLES, SpeechLevel, measure, normalise
from infinitetalk.spec import FPS

SAMPLES_PER_FRAME = SPEECH_RATE // FPS
PIECE_FRAMES = 60 * FPS
MARGIN_FRAMES = 5 * FPS  # rows at the rim of a piece that are taken from its neighbour
PIECES_HELD = 2

Encode = Callable[[Tensor, int], Tensor]
"""(normalised samples s, frames) -> embedding f l c."""


class Speech(Protocol):
    """One voice on the time line of the video, one embedding row per frame."""

    def rows(self, numbers: Tensor) -> Tensor:
        """Embedding of the given row numbers: f w -> f w l c."""


class EmbeddedSpeech:
    """A voice whose embedding is in memory."""

    def __init__(self, embedding: Tensor) -> None:
        self._embedding = embedding  # f l c

    def rows(self, numbers: Tensor) -> Tensor:
        return self._embedding[numbers]


class StreamedSpeech:
    """A voice read from its file and embedded piece by piece.

    Args:
        voice: its time line is `frames` long or longer; silence where there is no voice.
        frames: rows that exist, silence after the voice included.
    """

    def __init__(self, voice: SpeechFile, encode: Encode, frames: int) -> None:
        self._voice = voice
        self._encode = encode
        self._frames = frames
        self._level = measure_level(voice, frames)
        self._pieces: OrderedDict[int, Tensor] = OrderedDict()

    def rows(self, numbers: Tensor) -> Tensor:
        first, last = int(numbers.min()), int(numbers.max())
        stretch = torch.stack([self._row(row) for row in range(first, last + 1)])
        return stretch[(numbers - first).to(stretch.device)]

    def _row(self, row: int) -> Tensor:
        index, start, _ = piece_of(row, self._frames)
        return self._piece(index)[row - start]

    def _piece(self, index: int) -> Tensor:
        if index not in self._pieces:
            start, stop = piece_span(index, self._frames)
            samples = self._voice.read(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)
            wave = torch.from_numpy(normalise(samples, self._level))
            while len(self._pieces) >= PIECES_HELD:
                self._pieces.popitem(last=False)
            self._pieces[index] = self._encode(wave, stop - start)
        return self._pieces[index]


def piece_of(row: int, frames: int) -> tuple[int, int, int]:
    """The piece that gives a row: its index, first row and end."""
    stride = PIECE_FRAMES - 2 * MARGIN_FRAMES
    index = max(0, (row - MARGIN_FRAMES) // stride)
    index = min(index, _pieces(frames) - 1)
    return (index, *piece_span(index, frames))


def piece_span(index: int, frames: int) -> tuple[int, int]:
    """First row and end of a piece."""
    start = index * (PIECE_FRAMES - 2 * MARGIN_FRAMES)
    return start, min(start + PIECE_FRAMES, frames)


def _pieces(frames: int) -> int:
    stride = PIECE_FRAMES - 2 * MARGIN_FRAMES
    return 1 + max(0, -(-(frames - PIECE_FRAMES) // stride))


def measure_level(voice: SpeechFile, frames: int) -> SpeechLevel:
    """Loudness and statistics of a voice together with the silence that pads it, in one pass."""
    end = max(frames * SAMPLES_PER_FRAME, SHORTEST_SAMPLES)
    block = 10 * SPEECH_RATE
    starts = range(0, end, block)
    return measure(np.asarray(voice.read(s, min(s + block, end))) for s in starts)
