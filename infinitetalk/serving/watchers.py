"""How many connections may stay open to wait for a job: the others need room to come in.

Where a platform gives a process so many requests at once, those that only wait would fill it.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class Watchers:
    """Counts those who wait; for one event loop.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Whether there was room to wait; a place is free again with the end of the block."""
        has_room = self._count < self._limit
        self._count += has_room
        try:
            yield has_room
        finally:
            self._count -= has_room
