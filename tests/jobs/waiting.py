"""Waiting for something that another process does."""

import time
from collections.abc import Callable

import psutil

PATIENCE_S = 60.0
LOOK_S = 0.01


def until(
    condition: Callable[[], object],
    *,
    meanwhile: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return as soon as the condition holds; it is looked at all the time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()
        time.sleep(LOOK_S)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one whose parent does not ask for it stays as a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
