"""The device that is measured, and its memory; on a CPU there is nothing to wait for or count."""

import gc

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    """Until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def collect() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def allocated() -> float:
    """GiB; the peak is counted from here."""
    if DEVICE.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 2**30


def peak() -> float:
    """GiB at most since `allocated` was asked."""
    return torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
