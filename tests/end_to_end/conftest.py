"""Whole jobs: media made at test time, models loaded once."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from infinitetalk.config import Settings
from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.runner import Result, Runner
from infinitetalk.spec import GenerationSpec


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def tiny(settings: Settings) -> Runner:
    return Runner.load("tiny", settings)


@pytest.fixture(scope="session")
def demo(settings: Settings) -> Runner:
    return Runner.load("demo", settings)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def portrait(media: Path) -> Path:
    path = media / "portrait.png"
    draw_portrait(160).save(path)
    return path


@pytest.fixture(scope="session")
def make_speech(media: Path) -> Callable[..., Path]:
    """Noise that swells and fades like syllables, so that any shift of it shows."""

    def make(seconds: float, *, rate: int = 44100, channels: int = 2, seed: int = 1) -> Path:
        path = media / f"speech_{seconds}_{rate}_{channels}_{seed}.wav"
        if not path.exists():
            soundfile.write(path, _syllables(seconds, rate, channels, seed), rate)
        return path

    return make


def _syllables(seconds: float, rate: int, channels: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    count = round(seconds * rate)
    knots = random.random(int(seconds * 10) + 3)
    loudness = np.interp(np.arange(count) / rate, np.arange(len(knots)) / 10, knots)
    smooth = np.convolve(random.normal(size=count), np.ones(24) / 24, "same")  # AAC keeps lows
    wave = smooth * loudness * 0.5
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


@pytest.fixture(scope="session")
def convert() -> Callable[..., Path]:
    """Run ffmpeg on a file."""

    def run(source: Path, target: Path, *options: str) -> Path:
        quiet = ["-nostdin", "-loglevel", "error", "-y"]
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *quiet,
            "-i",
            str(source),
            *options,
            str(target),
        ]
        subprocess.run(command, check=True, timeout=60)
        return target

    return run


@pytest.fixture
def render(tmp_path: Path, settings: Settings) -> Callable[..., Result]:
    """Make a job in a new folder and run it."""

    def run(
        runner: Runner, spec: GenerationSpec, scene: Path, voices: Sequence[Path], name: str = "job"
    ) -> Result:
        folder = JobFolder(tmp_path / name)
        create_job(folder, spec, scene, voices, settings)
        return runner.run(folder, spec)

    return run
