"""Files that are either whole or absent: part file, fsync, rename, fsync of the folder.

What appears under its final name survives a power cut; a killed process leaves at most one
`*.part` beside it, which the next attempt replaces.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infinitetalk.errors import StorageFull

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""`errno` of an `OSError` when the disk, or a share of it, is full."""


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """The path to write to; it becomes `target` when the block ends well, and is removed otherwise.

    Raises:
        StorageFull: the disk has no room.
    """
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        yield part
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull("The disk has no room for the result.") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
