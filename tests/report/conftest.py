"""A face whose mouth opens with the voice, made at test time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.writer import join, write_fragment, write_sound
from infinitetalk.report.measure import Measurements, measure

FRAMES = 60
SIZE = 96  # pixels
WORDS = ((10, 22), (30, 40), (46, 55))  # frames in which somebody speaks
LATE = 2  # frames that the mouth is behind
DRIFT = 24  # levels of red that the picture gains


def is_speaking() -> np.ndarray:  # -> f
    index = np.arange(FRAMES)[:, None]
    return np.array([(index >= start) & (index < end) for start, end in WORDS]).any(axis=0)[:, 0]


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words, and a mouth that opens and closes with them; the picture turns red."""
    folder = tmp_path_factory.mktemp("talking")
    noise = np.random.default_rng(0).normal(size=(FRAMES, 640)) * 0.1
    soundfile.write(folder / "voice.wav", (noise * is_speaking()[:, None]).ravel(), 16000)
    opened = np.roll(is_speaking(), LATE) * (np.arange(FRAMES) % 2)
    frames = np.full((FRAMES, SIZE, SIZE, 3), 90, np.uint8)
    frames[..., 0] += np.linspace(0, DRIFT, FRAMES).astype(np.uint8)[:, None, None]
    frames[:, 60:72, 36:60] -= (60 * opened).astype(np.uint8)[:, None, None, None]
    write_fragment(frames, folder / "0.m4s")
    write_sound(Soundtrack(folder / "voice.wav"), folder / "sound.m4a", FRAMES)
    target = folder / "talking.mp4"
    join([folder / "0.m4s"], folder / "sound.m4a", target, frames=FRAMES, metadata={})
    return target


@pytest.fixture(scope="session")
def measured(talking: Path) -> Measurements:
    return measure(talking, "talking")
