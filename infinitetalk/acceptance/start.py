"""From the start of a process to its first denoising step, part by part.

A model is loaded as an engine loads it, then a job of the bundled portrait and sentence is begun
and canceled after its first step. Nothing is judged here.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from infinitetalk.acceptance.clip import bundled_job
from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.config import Settings
from infinitetalk.errors import Canceled
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import Loading, OnPart, Runner
from infinitetalk.spec import GenerationSpec

IMPORTS, JOB, ENCODING, FIRST_STEP = "imports", "job", "encoding", "first_step"
PARTS = (IMPORTS, *Loading, JOB, ENCODING, FIRST_STEP)
"""Names of all parts, in order."""

_STAT = Path("/proc/self/stat")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the start, seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Start:
    """A start by its parts, the first step being the last one."""

    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """Until the first step is done."""
        return sum(part.seconds for part in self.parts)

    @property
    def until_first_step(self) -> float:
        """Until it begins."""
        return self.seconds - self.parts[-1].seconds


def time_start(
    load: Callable[[OnPart], Runner],
    spec: GenerationSpec,
    settings: Settings,
    folder: Path,
    clock: Clock,
    started: float,
) -> Start:
    """Load a model and run the first step of a job.

    Args:
        load: loads it and tells of its parts.
        folder: of the job; made here.
        clock: waits for the device.
        started: when the process did, by `clock`.

    Raises:
        InfiniteTalkError: loading failed, or the job cannot be made or rendered.
    """
    moments = [(IMPORTS, started)]

    def begin(part: str) -> None:
        moments.append((part, clock()))

    runner = load(begin)
    begin(JOB)
    job = bundled_job(spec, folder, settings, spec.window)
    begin(ENCODING)

    def on_progress(progress: Progress) -> None:
        if progress.stage is Stage.DENOISING and progress.step == 0:
            begin(FIRST_STEP)

    def canceling() -> bool:  # asked for the first time after the first step
        begin("end")
        return True

    with suppress(Canceled):
        runner.run(job, spec, on_progress=on_progress, canceling=canceling)
    return Start(_parts(moments))


def _parts(moments: Sequence[tuple[str, float]]) -> tuple[Part, ...]:
    return tuple(Part(name, end - began) for (name, began), (_, end) in pairwise(moments))


def process_start(stat: Path = _STAT) -> float:
    """When a process was started, by `time.monotonic`.

    Where the system does not tell (macOS) it is this process, and only its computing counts.

    Args:
        stat: the kernel's row about the process, this one unless another is named.
    """
    try:
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # since the machine started
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        age = time.process_time()
    return time.monotonic() - age
