"""Where the text encoder runs: the first thing that makes room when a device is small.

It works once for each new prompt, so a slower place costs seconds of a job, not of every step. On
the CPU it stays in bfloat16 and as exact as on the device; in 8 bits its embeddings are off by
several times as much (benchmarks/RESULTS.md), so that comes last. This module needs no torch.
"""

from enum import StrEnum


class TextPlacement(StrEnum):
    """Where the text encoder's weights lie, in order of preference."""

    DEVICE = "device"
    CPU = "cpu"
    DEVICE_FP8 = "device_fp8"
