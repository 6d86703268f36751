"""Modal Volumes of a control plane on loopback, and moments at which a test may step in."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import modal

from tests.modal_control_plane.plane import ControlPlane


class Volumes:
    """Makes Volumes, each with a folder in which its files are seen."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self._client = plane.client()

    def make(self) -> tuple[modal.Volume, Path]:
        name = f"volume-{uuid.uuid4().hex}"
        volume = modal.Volume.from_name(
            name, create_if_missing=True, version=2, client=self._client
        ).hydrate()
        return volume, self.plane.volumes.folder(name)


class Watched:
    """A Volume that tells before and after everything that is done to it.

    It stands in at the edge, for Modal's own class: what it is told goes to a real one.
    """

    def __init__(self, volume: modal.Volume, at_moment: Callable[[], None]) -> None:
        self._volume = volume
        self._at_moment = at_moment

    @contextmanager
    def batch_upload(self, force: bool = False) -> Iterator[Any]:
        with self._moments(), self._volume.batch_upload(force=force) as batch:
            yield batch

    def read_file_into_fileobj(self, path: str, file: IO[bytes]) -> int:
        with self._moments():
            return self._volume.read_file_into_fileobj(path, file)

    def listdir(self, path: str, *, recursive: bool = False) -> list[Any]:
        with self._moments():
            return self._volume.listdir(path, recursive=recursive)

    def remove_file(self, path: str, recursive: bool = False) -> None:
        with self._moments():
            self._volume.remove_file(path, recursive=recursive)

    @contextmanager
    def _moments(self) -> Iterator[None]:
        self._at_moment()
        yield
        self._at_moment()


class Moments:
    """Steps in at one of the next moments of a Volume, or at every one; `passed` counts them."""

    def __init__(self) -> None:
        self.passed = 0
        self._at: int | None = None
        self._act: Callable[[], object] | None = None

    def arm(self, act: Callable[[], object], *, at: int | None = None) -> None:
        """From now on act at the moment of this number, from 1, or at all."""
        self.passed, self._at, self._act = 0, at, act

    def disarm(self) -> None:
        self._act = None

    def __call__(self) -> None:
        self.passed += 1
        if self._act is not None and self._at in (None, self.passed):
            self._act()


def tree(folder: Path) -> dict[str, str]:
    """Names and contents of all files below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
