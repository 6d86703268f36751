"""A small finished video, and certificates that sign: made at test time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.writer import join, write_fragment, write_sound
from tests.disclosure.certificates import Pair, certified

FRAMES = 10


@pytest.fixture(scope="session")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the writer joins it; to be copied before it is marked."""
    folder = tmp_path_factory.mktemp("joined")
    soundfile.write(folder / "voice.wav", np.zeros(16000), 16000)
    write_sound(Soundtrack(folder / "voice.wav"), folder / "sound.m4a", FRAMES)
    ramp = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(1, 48, 64, 3)
    write_fragment(np.repeat(ramp, FRAMES, axis=0), folder / "0.m4s")
    target = folder / "joined.mp4"
    join([folder / "0.m4s"], folder / "sound.m4a", target, frames=FRAMES, metadata={"title": "x"})
    return target


@pytest.fixture(scope="session")
def pair() -> Pair:
    """A certificate of our own authority, fit for C2PA, and its key."""
    return certified()
