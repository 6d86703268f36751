"""Files on the disk of this container, fetched when they are asked for, up to a number of bytes.

What was asked for longest ago goes first. The folder belongs to one process. Names begin with the
id of the job that they belong to.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

LOCKS = 64  # files that are fetched at once without one waiting for another


class DiskCache:
    """A bounded folder of copies."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()  # bytes; last asked for comes last
        self._changing = Lock()
        self._fetching = tuple(Lock() for _ in range(LOCKS))

    def get(self, name: str, fetch: Callable[[Path], None]) -> Path:
        """The file of this name; callers at once have it fetched once.

        Args:
            fetch: puts the file, whole, at a path; what it raises goes to the caller.
        """
        path = self._folder / name
        with self._fetching[hash(name) % LOCKS]:
            if not self._has(path):
                self._fetch(path, fetch)
        return path

    def forget(self, job_id: str) -> None:
        """Delete the copies of a job."""
        with self._changing:
            for name in [name for name in self._sizes if name.startswith(f"{job_id}.")]:
                self._drop(name)

    def _has(self, path: Path) -> bool:
        with self._changing:
            size_bytes = self._sizes.get(path.name)
            if size_bytes is None or not _has_size(path, size_bytes):
                return False
            self._sizes.move_to_end(path.name)
            return True

    def _fetch(self, path: Path, fetch: Callable[[Path], None]) -> None:
        fetched = path.with_name(f"{path.name}.new")
        try:
            fetch(fetched)
            self._keep(fetched, path)
        finally:
            fetched.unlink(missing_ok=True)

    def _keep(self, fetched: Path, path: Path) -> None:
        size_bytes = fetched.stat().st_size
        with self._changing:
            self._sizes.pop(path.name, None)
            while self._sizes and sum(self._sizes.values()) + size_bytes > self._limit_bytes:
                self._drop(next(iter(self._sizes)))
            fetched.replace(path)
            self._sizes[path.name] = size_bytes

    def _drop(self, name: str) -> None:
        del self._sizes[name]
        (self._folder / name).unlink(missing_ok=True)  # who reads it has it open


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
