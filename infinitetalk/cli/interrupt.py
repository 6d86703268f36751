"""Ctrl-C and SIGTERM: the first asks a job to stop, the second ends the program."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted:
    """Whether somebody asked to stop. `on_first` is told once, at the first signal."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
        self._on_first()


@contextmanager
def interruptible(on_first: Callable[[], None]) -> Iterator[Interrupted]:
    """Collect signals while the block runs; the handlers from before come back afterwards."""
    handler = Interrupted(on_first)
    before = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield handler
    finally:
        for number, old in zip(SIGNALS, before, strict=True):
            signal.signal(number, old)
