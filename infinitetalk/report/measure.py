"""What can be measured of a finished video, from the file alone, in one pass over its frames.

The mouth is not searched for: it is taken to be in the lower middle of the picture, or in the lower
half of a box that the caller names. Axes: f frames, h height, w width, s samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
from PIL import Image

from infinitetalk.errors import VideoInvalid
from infinitetalk.media import ffmpeg
from infinitetalk.media.probe import MediaInfo, VideoStream, probe
from infinitetalk.spec import FPS, Box

RATE = 16000  # samples a second
SILENCE_DB = -80.0  # full scale is 0
COLUMNS = 1450  # of the waveform
PICTURES = 12  # of the strip
LONGEST_SIDE = 320  # pixels of a frame as it is measured
_HOP = RATE // FPS  # samples heard during one frame
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


@dataclass(frozen=True, slots=True)
class Measurements:
    """One value a frame, unless it says otherwise."""

    name: str
    codec: str
    height: int  # pixels of the video
    width: int
    loudness: np.ndarray | None  # f: dB of full scale; None without sound
    wave: np.ndarray | None  # COLUMNS 2: lowest and highest sample of each column
    motion: tuple[np.ndarray, ...]  # for each mouth, f: mean change of luma, in levels of 255
    colour: np.ndarray  # f 3: mean red, green, blue, in levels of 255
    strip: tuple[Image.Image, ...]  # evenly over the time

    @property
    def frames(self) -> int:
        return len(self.colour)

    @property
    def seconds(self) -> float:
        return self.frames / FPS


def measure(video: Path, name: str, boxes: Sequence[Box] = ()) -> Measurements:
    """Measure a video of any frame rate, as 25 frames a second.

    Args:
        name: what the sheet calls it.
        boxes: one for each speaker, in pixels of the video.

    Raises:
        FileMissing, UnsupportedMedia: it is no video file.
        VideoInvalid: it has no frames that decode.
    """
    info = probe(video)
    if info.video is None:
        raise VideoInvalid(f"{video.name} has no video track.")
    height, width = info.video.display_size
    mouths = _mouths(boxes, height, width)
    motion, colour, strip = _watch(video, info, mouths)
    sound = None if info.audio is None else _listen(video, len(colour))
    return Measurements(
        name=name,
        codec=info.video.codec,
        height=height,
        width=width,
        loudness=None if sound is None else _loudness(sound, len(colour)),
        wave=None if sound is None else _envelope(sound),
        motion=tuple(motion.T),
        colour=colour,
        strip=strip,
    )


def _mouths(boxes: Sequence[Box], height: int, width: int) -> list[tuple[float, ...]]:
    """Top, left, bottom and right as shares of the picture."""
    if not boxes:
        return [(0.5, 0.3, 0.85, 0.7)]
    return [
        ((b.top + b.bottom) / 2 / height, b.left / width, b.bottom / height, b.right / width)
        for b in boxes
    ]


def _watch(
    video: Path, info: MediaInfo, mouths: list[tuple[float, ...]]
) -> tuple[np.ndarray, np.ndarray, tuple[Image.Image, ...]]:  # f m, f 3
    """How much each mouth moves, the mean colours, and some of the frames."""
    assert info.video is not None
    expected = max(1.0, (info.duration_s or 0.0) * FPS)
    motion: list[list[float]] = []
    colour: list[np.ndarray] = []
    strip: list[Image.Image] = []
    before: list[np.ndarray] | None = None
    for index, frame in enumerate(_frames(video, info.video)):
        luma = [_cut(frame, mouth) @ _LUMA for mouth in mouths]
        motion.append([float(abs(a - b).mean()) for a, b in zip(luma, before or luma, strict=True)])
        colour.append(frame.mean(axis=(0, 1)))
        if len(strip) < PICTURES and index >= (len(strip) + 0.5) * expected / PICTURES - 1:
            strip.append(Image.fromarray(frame))
        before = luma
    if not colour:
        raise VideoInvalid(f"No frame of {video.name} decodes.")
    return np.array(motion), np.array(colour), tuple(strip)


def _cut(frame: np.ndarray, part: tuple[float, ...]) -> np.ndarray:  # h w 3 -> h w 3 float32
    height, width, _ = frame.shape
    top, bottom = (round(share * height) for share in part[0::2])
    left, right = (round(share * width) for share in part[1::2])
    return frame[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float32)


def _frames(video: Path, stream: VideoStream) -> Iterator[np.ndarray]:  # h w 3 uint8
    """Upright frames, small: what is measured are means."""
    height, width = stream.display_size
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    rows, columns = max(1, round(height * shrink)), max(1, round(width * shrink))
    chain = f"fps={FPS}:start_time=0,scale={columns}:{rows}:flags=area+accurate_rnd,format=rgb24"
    raw = ["-vf", chain, "-f", "rawvideo", "-fps_mode", "passthrough", "pipe:1"]
    size = rows * columns * 3
    try:
        with ffmpeg.reading([*ffmpeg.opening(video), "-map", "0:V:0", *raw]) as pipe:
            while len(block := pipe.read(size)) == size:
                yield np.frombuffer(block, np.uint8).reshape(rows, columns, 3)
    except ffmpeg.FFmpegFailed as failed:
        raise VideoInvalid(f"{video.name} does not decode.") from failed


def _listen(video: Path, frames: int) -> np.ndarray:  # -> s float32
    """The sound while the frames are shown, mono, silence where there is none."""
    exact = f"aresample={RATE}:async=1:first_pts=0,apad,atrim=end_sample={frames * _HOP}"
    output = ["-map", "0:a:0", "-af", exact, "-ac", "1", "-f", "f32le", "pipe:1"]
    try:
        return np.frombuffer(ffmpeg.run([*ffmpeg.opening(video), *output]), "<f4")
    except ffmpeg.FFmpegFailed as failed:
        raise VideoInvalid(f"The sound of {video.name} does not decode.") from failed


def _loudness(sound: np.ndarray, frames: int) -> np.ndarray:  # s -> f
    rms = librosa.feature.rms(y=sound, frame_length=2 * _HOP, hop_length=_HOP)[0, :frames]
    lowest = 10 ** (SILENCE_DB / 20)
    decibels = librosa.amplitude_to_db(rms, ref=1.0, amin=lowest, top_db=None)
    return np.maximum(decibels, SILENCE_DB)


def _envelope(sound: np.ndarray) -> np.ndarray:  # s -> COLUMNS 2
    edges = np.linspace(0, len(sound), COLUMNS + 1).astype(int)
    parts = [sound[a : max(b, a + 1)] for a, b in pairwise(edges)]
    return np.array([(part.min(), part.max()) for part in parts])
