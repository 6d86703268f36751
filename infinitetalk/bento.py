"""The Bento of this checkout: built when there is none of exactly these files.

A Bento is called by a hash of what goes into it, so it can be neither stale nor built twice. They
are kept in build/bentoml of the checkout, apart from the user's own store.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.errors import InvalidSetting

FILES = (
    *("service.py", "bentofile.yaml", "pyproject.toml", "README.md"),
    *("requirements/image.lock", "image/setup.sh"),
)
PACKAGE = "infinitetalk"
LEFT_OUT = "__pycache__"


def deployed_bento(settings: Settings, checkout: Path) -> Path:
    """The Bento that the settings name, or that of the checkout.

    Raises:
        InvalidSetting: the named one is none; or as `current_bento`.
    """
    if settings.bento is None:
        return current_bento(checkout)
    if not (settings.bento / "bento.yaml").is_file():
        raise InvalidSetting("INFINITETALK_BENTO is no folder of a built Bento.")
    return settings.bento.absolute()


def current_bento(checkout: Path) -> Path:
    """The folder of the Bento of a checkout; it takes some seconds when it has to be built.

    Raises:
        InvalidSetting: bentoml is not installed, or could not build it.
    """
    store = checkout / "build" / "bentoml"
    version = source_version(checkout)
    bento = store / "bentos" / PACKAGE / version
    if not (bento / "bento.yaml").exists():
        _build(checkout, store, version)
        _drop_others(bento)
    return bento


def source_version(checkout: Path) -> str:
    """A hash of all that goes into the Bento: paths and contents."""
    digest = hashlib.sha256()
    for path in _sources(checkout):
        name = path.relative_to(checkout).as_posix()
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def _sources(checkout: Path) -> Iterator[Path]:
    yield from (checkout / name for name in FILES)
    for path in sorted((checkout / PACKAGE).rglob("*")):
        if path.is_file() and LEFT_OUT not in path.parts:
            yield path


def _build(checkout: Path, store: Path, version: str) -> None:
    if importlib.util.find_spec("bentoml") is None:
        raise InvalidSetting(
            "There is no Bento of this checkout, and bentoml, which builds it, is not installed: "
            "use the environment that `make` sets up (.venv/bin/modal), or name a built one in "
            "INFINITETALK_BENTO or a pushed image in INFINITETALK_IMAGE."
        )
    store.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bentoml", "build", "--version", version, "--output", "tag"]
    environment = {**os.environ, "BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True"}
    built = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        raise InvalidSetting(f"The Bento could not be built:\n{built.stderr.strip()}")


def _drop_others(bento: Path) -> None:
    """Earlier Bentos; one that is being deployed this moment was read into memory already."""
    for path in bento.parent.iterdir():
        if path.is_dir() and path != bento:
            shutil.rmtree(path, ignore_errors=True)
