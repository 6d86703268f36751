"""Media made at test time: no binaries in git but the golden vectors."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
import soundfile


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden vectors of the reference implementation."""
    return Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def make() -> Callable[..., Path]:
    """Run ffmpeg; the last argument is the file it makes."""

    def run(*arguments: object) -> Path:
        quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), *quiet, *map(str, arguments)]
        subprocess.run(command, check=True, timeout=60)
        return Path(str(arguments[-1]))

    return run


@pytest.fixture(scope="session")
def make_clip(make: Callable[..., Path]) -> Callable[..., Path]:
    """A video whose brightness tells the time: luma 16 + 80 * seconds."""

    def clip(
        path: Path, *encode: object, rate: str = "25", seconds: float = 2, filters: str = "null"
    ) -> Path:
        source = f"color=black:size=64x48:rate={rate}:duration={seconds},format=yuv420p"
        level = f"geq=lum='16+80*T':cb=128:cr=128,{filters}"
        picked = encode or ("-c:v", "libx264", "-qp", "1", "-preset", "ultrafast")
        shape = ("-pix_fmt", "yuv420p", "-fps_mode", "passthrough")
        return make("-f", "lavfi", "-i", f"{source},{level}", *shape, *picked, path)

    return clip


@pytest.fixture(scope="session")
def make_voice() -> Callable[..., np.ndarray]:
    """A wav (or flac) of noise whose loudness follows a slow pattern; its samples are returned."""

    def voice(path: Path, rate: int = 44100, seconds: float = 2, channels: int = 1) -> np.ndarray:
        noise = np.random.default_rng(rate + channels).normal(size=round(rate * seconds))
        time = np.arange(len(noise)) / rate
        smooth = np.convolve(noise, np.ones(8) / 8, "same")
        wave = (0.2 * smooth * (1.2 + np.sin(9 * time))).astype(np.float32)
        samples = np.stack([wave / (1 + channel) for channel in range(channels)], axis=1)
        soundfile.write(path, samples, rate, subtype="PCM_16")
        return samples

    return voice


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path):
    """No test may leave a child process or a part file behind."""
    before = set(psutil.Process().children())  # of tests of other folders, such as their sandbox
    yield
    assert set(psutil.Process().children()) <= before
    assert list(tmp_path.rglob("*.part")) == []
