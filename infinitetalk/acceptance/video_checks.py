"""Whether a finished video is what was asked for, told from the file alone.

Whether lips and voice agree is no question of the file: here the sound only has to be where the
speech was that the model heard. Axes: f frames, h height, w width, s samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.signal import correlate, correlation_lags

from infinitetalk.acceptance.report import Verdict
from infinitetalk.media import ffmpeg
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.media.probe import probe
from infinitetalk.media.video import VideoFrames, check_video
from infinitetalk.spec import FPS

MAX_MEGAPIXELS = 9.0  # of a frame; ours have less than one
MAX_LAG_S = 0.010
LAG_REACH_S = 0.5  # further off, it counts as another sound
MIN_LIKENESS = 0.8  # correlation of sound and speech; AAC leaves 0.99 of it
MIN_SPREAD = 4.0  # standard deviation of a frame's levels of 255; a black or grey one has none
MIN_CHANGE = 0.02  # mean difference of a frame to the one before it, in levels of 255
MAX_STILL_FRAMES = 25  # in a row: whoever talks is not still for a second

_UNIT = "#tb 0: "  # before the unit of time stamps, as a fraction of a second


def check_format(video: Path) -> Verdict:
    """H.264 at 25 frames a second, with a sound track."""
    info = probe(video)
    codec = info.video.codec if info.video else "no video"
    fps = info.video.fps if info.video else None
    sound = info.audio.codec if info.audio else "no sound"
    passed = (codec, fps) == ("h264", FPS) and info.audio is not None
    return Verdict(passed, f"{codec} at {fps or 0:g} frames a second, {sound}")


def check_length(video: Path, frames: int) -> Verdict:
    """As many frames as were asked for, by the file's own clock."""
    found = check_video(video, MAX_MEGAPIXELS).frames
    return Verdict(found == frames, f"{found} frames, {frames} asked for")


def check_sync(video: Path, speech: Path) -> Verdict:
    """The sound track, from the first frame on, beside the speech that the model heard."""
    with SpeechFile(speech) as file:
        heard = file.read(0, file.samples)
    lag, likeness = _best_lag(_sound(video), heard)
    lag_s = lag / SPEECH_RATE - _first_frame_s(video)
    passed = abs(lag_s) <= MAX_LAG_S and likeness >= MIN_LIKENESS
    detail = f"{lag_s * 1000:+.1f} ms beside the speech, likeness {likeness:.2f}"
    return Verdict(passed, detail)


def check_picture(video: Path, frames: int) -> Verdict:
    """No frame of one colour, and no second in which nothing moves."""
    picture = _measure_frames(video, frames)
    passed = picture.least_spread >= MIN_SPREAD and picture.longest_still <= MAX_STILL_FRAMES
    detail = (
        f"levels of a frame spread by {picture.least_spread:.1f} or more (at least {MIN_SPREAD:g}),"
        f" at most {picture.longest_still} frames in a row are still (at most {MAX_STILL_FRAMES})"
    )
    return Verdict(passed, detail)


def _sound(video: Path) -> np.ndarray:  # -> s float32
    """The sound track at 16 kHz, from the moment 0 of the file's clock."""
    placed = f"aresample={SPEECH_RATE}:async=1:first_pts=0"  # gaps become silence
    output = ["-map", "0:a:0", "-af", placed, "-ac", "1", "-f", "f32le", "pipe:1"]
    return np.frombuffer(ffmpeg.run([*ffmpeg.opening(video), *output]), "<f4")


def _first_frame_s(video: Path) -> float:
    """When the first frame is shown, by the file's clock."""
    first = ["-map", "0:v:0", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "pipe:1"]
    report = ffmpeg.run([*ffmpeg.opening(video), *first]).decode().splitlines()
    unit = next(line for line in report if line.startswith(_UNIT)).removeprefix(_UNIT)
    _stream, _decoded_at, shown_at, *_ = report[-1].split(",")
    return float(int(shown_at) * Fraction(unit))


def _best_lag(sound: np.ndarray, speech: np.ndarray) -> tuple[int, float]:
    """By how many samples the sound is late, and how alike they are then (1 = equal)."""
    products = correlate(sound, speech, method="fft")
    lags = correlation_lags(len(sound), len(speech))
    near = abs(lags) <= LAG_REACH_S * SPEECH_RATE
    best = int(np.argmax(products[near]))
    norm = float(np.linalg.norm(sound) * np.linalg.norm(speech))
    return int(lags[near][best]), float(products[near][best]) / norm if norm else 0.0


@dataclass(frozen=True, slots=True)
class _Picture:
    """What the frames of a video have at least and at most."""

    least_spread: float
    longest_still: int  # frames


def _measure_frames(video: Path, frames: int) -> _Picture:
    spreads, is_still = [], []
    before: np.ndarray | None = None
    for frame in _frames(video, frames):
        spreads.append(float(frame.std()))
        is_still.append(before is not None and float(abs(frame - before).mean()) < MIN_CHANGE)
        before = frame
    runs = (len(list(run)) for still, run in groupby(is_still) if still)
    return _Picture(min(spreads), max(runs, default=0))


def _frames(video: Path, frames: int) -> Iterator[np.ndarray]:  # h w 3 float32
    with VideoFrames(video, max_megapixels=MAX_MEGAPIXELS) as film:
        for index in range(frames):
            yield film.frame(index).astype(np.float32)
