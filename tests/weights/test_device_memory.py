"""What is free on this machine."""

import os
from pathlib import Path

import psutil
import pytest
import torch

from infinitetalk.weights.device_memory import (
    GIB,
    free_memory,
    free_on_host,
    limit_memory,
    total_memory,
)

CPU = torch.device("cpu")


def test_on_a_cpu_the_memory_is_that_of_the_host() -> None:
    free = free_memory(CPU)
    assert free.device == free.host
    assert free.host == pytest.approx(psutil.virtual_memory().available, rel=0.5)


def test_what_is_in_use_is_not_free_but_there() -> None:
    total = total_memory(CPU)
    assert total.device == total.host == psutil.virtual_memory().total
    assert free_memory(CPU).device < total.device


def test_the_settings_may_cap_what_is_taken() -> None:
    assert free_memory(CPU, limit_gib=0.25).device == GIB // 4
    assert total_memory(CPU, limit_gib=0.25).device == GIB // 4
    assert free_memory(CPU, limit_gib=1e6).device < 1e6 * GIB


@pytest.mark.parametrize("text", [None, "", "MemFree: 7 kB\n", "MemAvailable: a lot\n"])
def test_a_system_that_does_not_tell_is_taken_for_empty(tmp_path: Path, text: str | None) -> None:
    meminfo = tmp_path / "meminfo"
    if text is not None:
        meminfo.write_text(text)
    assert free_on_host(meminfo) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_what_can_be_had_without_swapping_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    5 kB\n")
    assert free_on_host(meminfo) == 5 * 1024


def test_a_limit_is_none_of_the_cpus_business() -> None:
    limit_memory(CPU, 1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_beyond_the_limit_nothing_can_be_allocated(name: str) -> None:
    device = torch.device(name)
    limit_memory(device, 1.0)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2 * GIB, dtype=torch.uint8, device=device)
        assert free_memory(device, 1.0).device == GIB
        assert free_memory(device).device < total_memory(device).device
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
