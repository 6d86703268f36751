"""Seconds and bytes of a device, read when what it was told to do is done."""

import resource
import sys
import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]
"""Monotonic seconds."""


def device_clock(device: torch.device, monotonic: Clock = time.monotonic) -> Clock:
    """A clock that waits for the device, which else runs behind the program that drives it."""
    if device.type != "cuda":
        return monotonic

    def clock() -> float:
        torch.cuda.synchronize(device)
        return monotonic()

    return clock


def peak_on_device(device: torch.device) -> int | None:
    """The most bytes of tensors so far in this process; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def peak_on_host() -> int:
    """The most bytes of memory this process held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
