"""Kernel locks: held by a process, freed with it however it ends, never by a clock."""

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_S = 0.1


@contextmanager
def holding(path: Path, *, until: threading.Event) -> Iterator[bool]:
    """Wait for the lock and hold it; False, without it, when `until` was set before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while not (is_held := _take(file)):
            if until.wait(POLL_S):
                break
        yield is_held


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        with path.open("r+") as file:
            return not _take(file)
    except FileNotFoundError:
        return False


class UserLock:
    """Held by every user of something. The first one is alone with it until it lets others in."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def enter(self, patience_s: float) -> bool:
        """Become a user; whether nobody else is one.

        Raises:
            TimeoutError: the first user lets nobody in.
        """
        deadline = time.monotonic() + patience_s
        while True:
            if _take(self._file):
                return True
            if _take(self._file, fcntl.LOCK_SH):
                return False
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(POLL_S)

    def let_others_in(self) -> None:
        """Give up being alone."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def close(self) -> None:
        """Stop being a user."""
        self._file.close()


def _take(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
