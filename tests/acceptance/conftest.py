"""Finished videos with known pictures and sound, and the tiny model as a deployment has it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infinitetalk.acceptance.loading import Loaded, choose, load
from infinitetalk.config import Settings
from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.writer import join, write_fragment, write_sound
from tests.acceptance.subjects import CPU, FRAMES, MakeVideo, Ticks


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    return load(choose("tiny", settings, CPU), settings, CPU, started=0.0, clock=Ticks())


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """Frames of which no two are alike."""
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8)


@pytest.fixture
def make_video(tmp_path: Path, make_track: Callable[..., Path], noise: np.ndarray) -> MakeVideo:
    """A finished video as the writer makes it, of two seconds unless its frames say otherwise."""

    def make(frames: np.ndarray = noise, sound: Path | None = None) -> Path:
        fragment, video = tmp_path / "00000.m4s", tmp_path / "video.mp4"
        write_fragment(frames, fragment)
        soundtrack = Soundtrack(sound or make_track(FRAMES / 25))
        encoded = tmp_path / "encoded.m4a"
        write_sound(soundtrack, encoded, len(frames))
        join([fragment], encoded, video, frames=len(frames), metadata={})
        return video

    return make
