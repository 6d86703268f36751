"""What a running job tells the outside: its stage, how far it is and when it will be done."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Stages of a running job, in order; denoising to writing repeat for every window."""

    PREPARING = "preparing"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    WRITING = "writing"


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a job. Counts start at 1 and are 0 before their loop began."""

    stage: Stage
    window: int = 0
    windows: int = 0
    step: int = 0
    steps: int = 0
    skipped_steps: int = 0
    fraction: float = 0.0  # of the whole job, in [0, 1]
    eta_s: float | None = None  # None until the first step was measured


OnProgress = Callable[[Progress], None]
Canceling = Callable[[], bool]
"""Asked at every denoising step; True ends the job with `errors.Canceled`."""
