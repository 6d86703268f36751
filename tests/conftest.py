"""The tiny model, written and loaded once; and a server that renders with it, started once."""

import os

# Before torch is loaded, here and in every child: threads that wait for each other on shared cores
# make small networks a hundred times slower.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from infinitetalk.weights.load import Model
    from tests.running_server import RunningServer
    from tests.serving.playing import FileServer

# No test modules by their names, and imported by tests of several folders.
pytest.register_assert_rewrite(
    "tests.jobs.contract", "tests.jobs.contract_board", "tests.end_to_end.reading"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder of `tiny`; copy it to change it."""
    from infinitetalk.weights.synthetic import write_synthetic

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    write_synthetic("tiny", folder)
    return folder


@pytest.fixture(scope="session")
def load_tiny(tiny_folder: Path) -> "Callable[[], Model]":
    """A new `tiny` in float32, for tests that change it."""
    import torch

    from infinitetalk.weights.load import load_model

    return lambda: load_model(tiny_folder, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def tiny_model(load_tiny: "Callable[[], Model]") -> "Model":
    """`tiny` in float32, shared: not to be changed."""
    return load_tiny()


@pytest.fixture(scope="session")
def make_track(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A 16 kHz mono wav of noise that swells and fades like syllables."""
    folder = tmp_path_factory.mktemp("tracks")

    def make(seconds: float, seed: int = 0) -> Path:
        path = folder / f"track_{seconds}_{seed}.wav"
        if not path.exists():
            random = np.random.default_rng(seed)
            count = round(seconds * 16000)
            knots = random.random(int(seconds * 10) + 3)
            loudness = np.interp(np.arange(count) / 1600, np.arange(len(knots)), knots)
            wave = 0.2 * loudness * random.normal(size=count)
            soundfile.write(path, wave.astype(np.float32), 16000, subtype="FLOAT")
        return path

    return make


@pytest.fixture(scope="session")
def web() -> "Iterator[FileServer]":
    """Other people's web server, as far as the `server` knows."""
    from tests.serving.playing import file_server

    with file_server() as web:
        yield web


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, web: "FileServer"
) -> "Iterator[RunningServer]":
    """The real server, for tests that leave it as it is: it takes seconds to start.

    It may fetch from `web`.
    """
    from tests.running_server import RunningServer

    folder = tmp_path_factory.mktemp("server")
    with RunningServer(folder, INFINITETALK_FETCH_ALLOWED_HOSTS=web.address) as server:
        yield server


@pytest.fixture
def no_kernel_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compilers are told no place, as in a new process; told one, they forget it after."""
    from infinitetalk.compile_cache import VARIABLES

    for variable in VARIABLES:
        monkeypatch.setenv(variable, "for the sake of being forgotten")
        monkeypatch.delenv(variable)
