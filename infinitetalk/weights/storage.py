"""The disk that weights are written to: room, files that survive a power cut, one writer at a time.

What is prepared or fetched here runs to tens of gigabytes, so room is asked for before, and what a
killed process left behind is continued. Needs no torch.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infinitetalk.errors import StorageFull, WeightsBusy

SOURCES = "sources"
"""Folder of downloaded original files, beside the prepared models."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def size_on_disk(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def require_room(
    folder: Path, size: int, purpose: str, free: Callable[[Path], int] = free_bytes
) -> None:
    """Refuse what would fill the disk before it is begun.

    Args:
        size: bytes that are going to be written.
        purpose: what for, as the subject of a sentence.

    Raises:
        StorageFull: with both figures.
    """
    room = free(folder)
    if size > room:
        raise StorageFull(
            f"{purpose} takes {size / 1e9:.1f} GB more; the disk has {room / 1e9:.1f} GB free."
        )


@contextmanager
def exclusively(lock: Path) -> Iterator[None]:
    """Be the only process in the block; the lock is freed however the process ends.

    Raises:
        WeightsBusy: another process is.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WeightsBusy("Another process is preparing these weights.") from None
        yield


@contextmanager
def room_or_storage_full() -> Iterator[None]:
    """Turn the system's "no space left" into our error.

    Raises:
        StorageFull: the disk, or a share of it, ran full inside the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull("The disk has no room for the weights.") from error
        raise


def write_durably(path: Path, text: str) -> None:
    """Write a small file that is either the old or the new one, whatever happens."""
    part = path.with_name(f"{path.name}.new")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
