"""Reading a finished video back, by another program than the one that wrote it (PyAV)."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.spec import GenerationSpec


@dataclass(frozen=True)
class Video:
    """A finished file, read by another program than the one that wrote it."""

    frames: np.ndarray  # f h w 3
    times: list[float]  # s, of every frame
    rate: float
    codecs: tuple[str, str]
    pixel_format: str
    sound: np.ndarray  # s: mono at the track's own rate
    sample_rate: int
    channels: int
    comment: str


def read_video(path: Path) -> Video:
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        facts = (float(video.average_rate), video.codec_context.pix_fmt)
        codecs = (video.codec_context.name, audio.codec_context.name)
        sound_facts = (audio.rate, audio.codec_context.channels)
        comment = file.metadata.get("comment", "")
        frames, times = [], []
        for frame in file.decode(video):
            frames.append(frame.to_ndarray(format="rgb24"))
            times.append(float(frame.time))
    with av.open(str(path)) as file:
        blocks = [frame.to_ndarray() for frame in file.decode(audio=0)]
    sound = np.concatenate([block.mean(axis=0) for block in blocks])
    return Video(np.stack(frames), times, facts[0], codecs, facts[1], sound, *sound_facts, comment)


def check_video(path: Path, speech: Path, spec: GenerationSpec) -> None:
    """What holds for every result: codecs, times, length, sound in place."""
    video = read_video(path)
    samples, rate = soundfile.read(speech, dtype="float32", always_2d=True)
    seconds = len(samples) / rate
    assert video.codecs == ("h264", "aac")
    assert video.pixel_format == "yuv420p"
    assert video.rate == 25
    assert abs(len(video.frames) - seconds * 25) <= 1
    assert np.allclose(np.diff(video.times), 1 / 25, atol=1e-6)
    assert (video.sample_rate, video.channels) == (rate, samples.shape[1])
    assert atom_order(path).index("moov") < atom_order(path).index("mdat")
    assert video.frames.shape[1:3] in spec.buckets.values()
    assert json.loads(video.comment)["ai_generated"] is True
    reach = min(2000, len(samples) // 4)
    lag, agreement = best_lag(video.sound, samples.mean(axis=1), reach)
    assert abs(lag) <= 8
    assert agreement > 0.9


def best_lag(sound: np.ndarray, original: np.ndarray, reach: int = 2000) -> tuple[int, float]:
    """The shift in samples at which two recordings agree best, and how well (1 = equal)."""
    length = min(len(sound), len(original)) - 2 * reach
    middle = original[reach : reach + length]
    scores = {}
    for lag in range(-reach, reach + 1, 1 if reach < 64 else 8):
        part = sound[reach + lag : reach + lag + length]
        scores[lag] = float(part @ middle / (np.linalg.norm(part) * np.linalg.norm(middle) + 1e-9))
    lag = max(scores, key=lambda key: scores[key])
    return lag, scores[lag]


def atom_order(path: Path) -> list[str]:
    """Names of the top-level boxes of an mp4."""
    names, data, at = [], path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 4 : at + 8].decode())
        at += size
    return names


def photo_with_rotation(path: Path) -> Path:
    """A JPEG that lies on its side and says so."""
    image = draw_portrait(160).crop((16, 0, 144, 160)).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    image.save(path, exif=exif, quality=90)
    return path
