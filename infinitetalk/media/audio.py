"""Speech for the model: anything ffmpeg can decode becomes a 16 kHz mono float32 wav.

Everything streams: memory does not grow with the length of the recording. Sound is counted in
decoded samples; time stamps and declared durations of the source are not believed.
Axes: s samples, c channels.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import soundfile

from infinitetalk.errors import (
    AudioInvalid,
    AudioTooLong,
    AudioTooShort,
    NoAudioStream,
    UnsupportedMedia,
)
from infinitetalk.media import ffmpeg
from infinitetalk.media.probe import probe, sniff_container
from infinitetalk.media.publish import publishing
from infinitetalk.media.resample import resample
from infinitetalk.spec import MIN_SPEECH_SECONDS, SpeakingOrder

SPEECH_RATE = 16000  # Hz, what wav2vec2 is trained on

_RATES = range(4000, 768001)  # Hz; outside lie broken headers
_BLOCK_FRAMES = 1 << 17  # samples of every channel decoded at once
_WAV_LIMIT_S = (2**32 - 100) / (4 * SPEECH_RATE)  # a wav counts its bytes in 32 bits: 18 hours
_AU_FLOAT = 6  # the encoding number of big-endian float32


@dataclass(frozen=True, slots=True)
class SpeechInfo:
    """What was decoded: `duration_s` at the source's own rate, `samples` of the 16 kHz file."""

    duration_s: float
    samples: int


def decode_speech(source: Path, target: Path, *, max_seconds: float) -> SpeechInfo:
    """Write the first sound track of `source` to `target` as 16 kHz mono float32 wav.

    Channels are averaged. At all usual rates the samples equal the one-shot `librosa.resample`
    within 1e-5 although only ten seconds are in memory at once.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
        UnsupportedMedia: it is no video or sound.
        NoAudioStream: it has no sound track.
        AudioInvalid: nothing decodes, or samples are not finite.
        AudioTooShort: less than `spec.MIN_SPEECH_SECONDS` decode.
        AudioTooLong: more than `max_seconds` decode; decoding stops there.
        StorageFull: the disk has no room.
    """
    _check_has_sound(source)
    try:
        with publishing(target) as part:
            with _decoding(source) as (rate, blocks):
                counted = _Counted(blocks, rate, min(max_seconds, _WAV_LIMIT_S))
                samples = _write_wav(part, resample(counted, rate, SPEECH_RATE))
            counted.check_long_enough()  # a decoder that failed has spoken first
    except ffmpeg.FFmpegFailed as failed:
        raise AudioInvalid(f"The sound of {source.name} does not decode.") from failed
    return SpeechInfo(counted.frames / rate, samples)


def combine_speakers(first: Path, second: Path, order: SpeakingOrder) -> tuple["Track", "Track"]:
    """Two voices, each a 16 kHz wav, on one time line: two equally long tracks.

    Together: the shorter voice is followed by silence. One after the other: each is silent while
    the other speaks.
    """
    lengths = []
    for path in (first, second):
        with SpeechFile(path) as voice:
            lengths.append(voice.samples)
    if order is SpeakingOrder.TOGETHER:
        return Track(first, 0, max(lengths)), Track(second, 0, max(lengths))
    return Track(first, 0, sum(lengths)), Track(second, lengths[0], sum(lengths))


@dataclass(frozen=True, slots=True)
class Track:
    """A voice on a time line of `samples`: it begins at `offset`, around it is silence."""

    source: Path
    offset: int
    samples: int

    def open(self) -> "SpeechFile":
        return SpeechFile(self.source, offset=self.offset, samples=self.samples)


class SpeechFile:
    """Random access to a 16 kHz mono wav of `decode_speech`, placed on a time line.

    Raises:
        AudioInvalid: the file is no such wav.
    """

    def __init__(self, path: Path, *, offset: int = 0, samples: int | None = None) -> None:
        try:
            self._file = soundfile.SoundFile(path)
        except (OSError, soundfile.LibsndfileError) as error:
            raise AudioInvalid(f"{path.name} is no speech file.") from error
        if (self._file.samplerate, self._file.channels) != (SPEECH_RATE, 1):
            self._file.close()
            raise AudioInvalid(f"{path.name} is not 16 kHz mono.")
        self._offset = offset
        self.samples: int = self._file.frames + offset if samples is None else samples

    def read(self, start: int, stop: int) -> np.ndarray:  # -> s float32
        """Samples [start, stop) of the time line; zeros where there is no voice."""
        out = np.zeros(stop - start, np.float32)
        first = max(start, self._offset)
        last = min(stop, self._offset + self._file.frames, self.samples)
        if first < last:
            self._file.seek(first - self._offset)
            out[first - start : last - start] = self._file.read(last - first, dtype="float32")
        return out

    def blocks(self, samples: int = 10 * SPEECH_RATE) -> Iterator[np.ndarray]:  # -> s float32
        """The whole time line in order, `samples` at once."""
        for start in range(0, self.samples, samples):
            yield self.read(start, min(start + samples, self.samples))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Counted:
    """Blocks passed on while their samples are counted and checked."""

    def __init__(self, blocks: Iterable[np.ndarray], rate: int, max_seconds: float) -> None:
        self._blocks, self._rate, self._max_seconds = blocks, rate, max_seconds
        self.frames = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.frames += len(block)
            if self.frames > self._max_seconds * self._rate:
                raise AudioTooLong(f"The speech is longer than {self._max_seconds:g} seconds.")
            if not np.isfinite(block).all():
                raise AudioInvalid("The speech has samples that are not finite numbers.")
            yield block

    def check_long_enough(self) -> None:
        if self.frames < MIN_SPEECH_SECONDS * self._rate:
            raise AudioTooShort(f"The speech is shorter than {MIN_SPEECH_SECONDS:g} seconds.")


def _check_has_sound(source: Path) -> None:
    try:
        info = probe(source)
    except UnsupportedMedia as error:
        if sniff_container(source) is None:
            raise
        raise AudioInvalid(f"{source.name} is damaged, it cannot be opened.") from error
    if info.audio is None:
        raise NoAudioStream(f"{source.name} has no sound track.")


@contextmanager
def _decoding(source: Path) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """The sample rate of the first sound track and its mono blocks."""
    # The AU format, because its header says what was really decoded: rate and channels in the
    # banner are claims of the container.
    arguments = ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with ffmpeg.reading([*ffmpeg.opening(source), *arguments]) as pipe:
        rate, channels = _read_header(pipe, source.name)
        yield rate, _read_mono(pipe, channels)


def _read_header(pipe: IO[bytes], name: str) -> tuple[int, int]:
    header = pipe.read(24)
    if len(header) < 24:  # nothing was decoded
        return SPEECH_RATE, 1
    magic, data_at, _, encoding, rate, channels = struct.unpack(">4s5I", header)
    assert (magic, encoding) == (b".snd", _AU_FLOAT)
    pipe.read(data_at - 24)
    if rate not in _RATES:
        raise AudioInvalid(f"{name} has a sample rate of {rate} Hz.")
    return rate, channels


def _read_mono(pipe: IO[bytes], channels: int) -> Iterator[np.ndarray]:  # s c -> s
    while data := pipe.read(4 * channels * _BLOCK_FRAMES):
        whole = len(data) // (4 * channels) * channels
        frames = np.frombuffer(data, ">f4", whole).astype(np.float32).reshape(-1, channels)
        yield frames[:, 0] if channels == 1 else frames.mean(axis=1)


def _write_wav(path: Path, blocks: Iterable[np.ndarray]) -> int:
    """Write 16 kHz mono float32 and return the number of samples.

    Not by soundfile, which stores the time of day in the file and hides the errors of the disk.
    """
    samples = 0
    with path.open("wb") as file:
        file.write(_wav_header(0))
        for block in blocks:
            file.write(block.astype("<f4").tobytes())
            samples += len(block)
        file.seek(0)
        file.write(_wav_header(samples))
    return samples


def _wav_header(samples: int) -> bytes:
    size = 4 * samples
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, SPEECH_RATE, 4 * SPEECH_RATE, 4, 32, 0)
    body = form + struct.pack("<4sII4sI", b"fact", 4, samples, b"data", size)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body) + size, b"WAVE") + body
