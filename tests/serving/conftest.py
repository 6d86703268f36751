"""A service without an engine for every test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from infinitetalk.config import load_settings
from infinitetalk.serving.sandbox import Sandbox
from tests.serving.playing import Running, Service, serving


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "face.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "voice.wav"
    wave = 0.1 * np.sin(np.arange(16000) * 0.05)
    soundfile.write(path, wave, 16000)
    return path


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One for all: warming it up takes seconds."""
    sandbox = Sandbox(load_settings({}))
    yield sandbox
    sandbox.close()


@pytest.fixture
def run(tmp_path: Path, portrait: Path, speech: Path, sandbox: Sandbox) -> Running:
    """`with run(**settings) as service`: a service of this test's own."""
    data = tmp_path / "data"
    return lambda **changes: serving(data, portrait, speech, sandbox=sandbox, **changes)


@pytest.fixture
def service(run: Running) -> Iterator[Service]:
    """A service with the usual settings."""
    with run() as service:
        yield service
