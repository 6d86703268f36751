"""Files on a Modal Volume, through Modal's client: put, fetch, list, remove.

No mount is used: committing and reloading one fails on open files and shows other readers an empty
folder meanwhile. Files travel in blocks of 8 MiB, several at a time, and are never whole in memory.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import modal
from aiohttp import ClientError
from grpclib.exceptions import StreamTerminatedError
from modal.exception import (
    ClientClosed,
    ConflictError,
    ConnectionError,
    ExecutionError,
    InternalError,
    NotFoundError,
    ResourceExhaustedError,
    ServiceError,
    TimeoutError,
)
from modal.types import FileEntryType

from infinitetalk.errors import StorageFull, StoreBusy
from infinitetalk.media.publish import NO_ROOM

AT_ONCE = 8  # files that are fetched at the same time
TRIES = 3  # of a listing: the only call that Modal's client does not repeat by itself
UNREACHABLE = (
    ClientClosed,
    ClientError,
    ConflictError,
    ConnectionError,
    ExecutionError,  # a block was refused, or arrived broken several times
    InternalError,
    OSError,
    ResourceExhaustedError,
    ServiceError,
    StreamTerminatedError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder on the Volume."""

    path: str  # from the root of the Volume, with a slash in front
    is_file: bool
    size_bytes: int  # 0 for a folder
    modified_at: float  # seconds since 1970 by Modal's clock: when it was put there


class VolumeFiles:
    """The files of one Volume.

    Every method raises StoreBusy when Modal cannot be reached.
    """

    def __init__(self, volume: modal.Volume) -> None:
        self._volume = volume

    def put(self, files: Mapping[str, Path]) -> None:
        """Upload files to the named paths, in one step; what is there is replaced.

        They must not change meanwhile: each is read twice, for its hashes and for its content.
        """
        if not files:
            return
        with _translated(), self._volume.batch_upload(force=True) as batch:
            for remote, path in files.items():
                batch.put_file(path, remote)

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Download the named paths, each whole or not at all.

        Raises:
            FileNotFoundError: one is not there.
            StorageFull: the disk has no room.
        """
        with ThreadPoolExecutor(AT_ONCE, "volume-files") as pool:
            for done in [pool.submit(self._fetch, *pair) for pair in files.items()]:
                done.result()

    def entries(self, folder: str, *, recursive: bool = False) -> list[Entry]:
        """What is in a folder; nothing when there is none."""
        for _ in range(TRIES - 1):
            with suppress(StoreBusy):
                return self._entries(folder, recursive)
        return self._entries(folder, recursive)

    def remove(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing happens when it is gone."""
        with suppress(FileNotFoundError), _translated():
            self._volume.remove_file(path, recursive=True)

    def _fetch(self, remote: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with _translated(), part.open("wb", buffering=0) as file:
                self._volume.read_file_into_fileobj(remote, file)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _entries(self, folder: str, recursive: bool) -> list[Entry]:
        try:
            with _translated():
                found = self._volume.listdir(folder, recursive=recursive)
        except FileNotFoundError:
            return []
        return [
            Entry(
                f"/{entry.path.strip('/')}",
                entry.type == FileEntryType.FILE,
                entry.size,
                float(entry.mtime),
            )
            for entry in found
        ]


@contextmanager
def _translated() -> Iterator[None]:
    """What goes wrong on the way to a Volume as our errors; a mistake of ours stays as it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotFoundError as error:
        raise FileNotFoundError from error
    except UNREACHABLE as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise StorageFull("The disk has no room for the files of this job.") from error
        message = "The files of jobs cannot be reached at the moment, try again."
        raise StoreBusy(message) from error
