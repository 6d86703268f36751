"""How much memory there is for a model, and a limit on what this process takes of it."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that can be had."""

    device: int
    host: int


def free_memory(device: torch.device, limit_gib: float | None = None) -> Memory:
    """What is free now, on the device at most `limit_gib`; what others use is not ours."""
    host = free_on_host()
    on_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host
    return _limited(on_device, host, limit_gib)


def total_memory(device: torch.device, limit_gib: float | None = None) -> Memory:
    """What there is, in use or not, on the device at most `limit_gib`."""
    host = _all_of_host()
    on_device = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else host
    return _limited(on_device, host, limit_gib)


def limit_memory(device: torch.device, limit_gib: float | None) -> None:
    """Make an allocation of this process beyond `limit_gib` fail as on a smaller GPU."""
    if limit_gib is None or device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    fraction = min(1.0, limit_gib * GIB / total)
    torch.cuda.set_per_process_memory_fraction(fraction, device.index)  # None: the current one


def free_on_host(meminfo: Path = _MEMINFO) -> int:
    """What can be had without swapping; all there is where the system does not tell (macOS)."""
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _all_of_host()


def _all_of_host() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limited(on_device: int, host: int, limit_gib: float | None) -> Memory:
    limit = on_device if limit_gib is None else int(limit_gib * GIB)
    return Memory(min(on_device, limit), host)
