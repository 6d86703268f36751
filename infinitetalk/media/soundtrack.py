"""The sound of the finished video: the user's own recordings, not the model's 16 kHz copies.

One recording keeps its sample rate and channels as far as AAC knows them. Two are brought to the
higher rate and to stereo (mono when both are mono), and are mixed or put one after the other.
What ffmpeg has to be told for that is said here; `writer` runs it.
"""

from dataclasses import dataclass
from pathlib import Path

from infinitetalk.errors import NoAudioStream
from infinitetalk.media import ffmpeg
from infinitetalk.media.probe import AudioStream, probe
from infinitetalk.spec import FPS, SpeakingOrder

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_OTHER_RATE = 48000  # Hz, for what AAC cannot hold
_MAX_CHANNELS = 8
_BITS_PER_CHANNEL = 96_000  # a second: 192k for stereo
_MIN_BITS = 128_000
# Two voices may add up to more than full scale; the limiter looks ahead and gives the delay back.
_MIX = "amix=inputs=2:duration=longest:normalize=0,alimiter=limit=0.97:level=0:latency=1"
_CHAIN = "concat=n=2:v=0:a=1"


@dataclass(frozen=True, slots=True)
class Soundtrack:
    """The recordings as they were given: one voice, or two in an order."""

    first: Path
    second: Path | None = None
    order: SpeakingOrder = SpeakingOrder.TOGETHER


@dataclass(frozen=True, slots=True)
class SoundGraph:
    """Arguments for ffmpeg: the inputs, the graph whose output is [sound], and its encoder."""

    inputs: list[str]
    graph: str
    encoder: list[str]


def sound_graph(soundtrack: Soundtrack, frames: int) -> SoundGraph:
    """The sound of `frames` video frames: cut there, or followed by silence.

    Raises:
        FileMissing, UnsupportedMedia, NoAudioStream: a recording is not what it was.
    """
    second = soundtrack.second
    paths = [soundtrack.first] if second is None else [soundtrack.first, second]
    streams = [_sound_of(path) for path in paths]
    rate = max(_rate(stream) for stream in streams)
    channels = min(max(stream.channels for stream in streams), _MAX_CHANNELS)
    layout = ""
    if len(streams) == 2:
        channels = min(channels, 2)
        layout = ":channel_layouts=" + ("mono" if channels == 1 else "stereo")
    parts = [
        f"[{index}:a:0]{_own(stream)}aformat=sample_rates={rate}{layout}[s{index}]"
        for index, stream in enumerate(streams)
    ]
    # Samples are counted, not timed: the model's tracks are counted in the same way.
    length = f"apad,atrim=end_sample={round(frames * rate / FPS)}"
    names = "".join(f"[s{index}]" for index in range(len(streams)))
    joined = "" if second is None else (_join(soundtrack.order) + ",")
    bits = max(_BITS_PER_CHANNEL * channels, _MIN_BITS)
    return SoundGraph(
        inputs=[argument for path in paths for argument in ffmpeg.opening(path)],
        graph=";".join([*parts, f"{names}{joined}{length}[sound]"]),
        encoder=["-c:a", "aac", "-b:a", str(bits)],
    )


def _sound_of(path: Path) -> AudioStream:
    audio = probe(path).audio
    if audio is None:
        raise NoAudioStream(f"{path.name} has no sound track.")
    return audio


def _rate(stream: AudioStream) -> int:
    return stream.sample_rate if stream.sample_rate in _AAC_RATES else _OTHER_RATE


def _own(stream: AudioStream) -> str:
    """Filters at the recording's own rate: gapless, and with a layout that has a meaning."""
    gapless = "asetpts=N/SR/TB,"
    if stream.channels <= _MAX_CHANNELS:
        return gapless
    mean = "+".join(f"{1 / stream.channels:.6f}*c{index}" for index in range(stream.channels))
    return f"{gapless}pan=stereo|c0={mean}|c1={mean},"


def _join(order: SpeakingOrder) -> str:
    return _MIX if order is SpeakingOrder.TOGETHER else _CHAIN
