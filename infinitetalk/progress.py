"""What a running job tells the outside: its stage, how far it is and when it will be done."""

import time
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
    skipped_steps: int = 0  # forwards that the step cache left out
    fallback_windows: int = 0  # came out broken and were rendered again with torch's attention
    fraction: float = 0.0  # of the whole job, in [0, 1]
    eta_s: float | None = None  # None until the first step was measured


OnProgress = Callable[[Progress], None]
Canceling = Callable[[], bool]
"""Asked at every denoising step; True ends the job with `errors.Canceled`."""


class ProgressMeter:
    """Turns what the sampler reports into `Progress`, with a time estimate from measured steps.

    Args:
        windows, steps: of the whole job.
        first_window: where a resumed job continues.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        windows: int,
        steps: int,
        report: OnProgress,
        *,
        first_window: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._windows = windows
        self._steps = steps
        self._report = report
        self._clock = clock
        self._first_done = first_window * steps
        self._done = self._first_done
        self._window = 0
        self._step = 0
        self._skipped = 0
        self._fallbacks = 0
        self._running: Stage | None = None
        self._since = clock()
        self._spent = dict.fromkeys(Stage, 0.0)  # seconds in each stage so far
        self._fraction = 0.0  # never falls, although a window may be rendered again

    def stage(self, stage: Stage, window: int | None = None) -> None:
        """A stage begins; encoding and denoising say of which window (counted from 0)."""
        self._clock_in(stage)
        if window is not None:
            self._window, self._step = window + 1, 0
            self._done = window * self._steps
        self._emit(stage)

    def step(self, step: int, skipped: int) -> None:
        """`step` steps of the window are done; `skipped` forwards were left out so far."""
        self._clock_in(Stage.DENOISING)
        self._done += step - self._step
        self._step, self._skipped = step, skipped
        self._emit(Stage.DENOISING)

    def fall_back(self) -> None:
        """The window came out broken and is rendered again in another way."""
        self._fallbacks += 1

    def _emit(self, stage: Stage) -> None:
        total = self._windows * self._steps
        self._fraction = max(self._fraction, self._done / total)
        self._report(
            Progress(
                stage,
                self._window,
                self._windows,
                self._step,
                self._steps,
                self._skipped,
                self._fallbacks,
                self._fraction,
                self._eta(total),
            )
        )

    def _clock_in(self, stage: Stage) -> None:
        now = self._clock()
        if self._running is not None and self._window:  # before that it is once for the job
            self._spent[self._running] += now - self._since
        self._running, self._since = stage, now

    def _eta(self, total: int) -> float | None:
        """Steps to go at their measured pace, the rest of each window at that of past windows.

        Until a window is done, what comes after its steps is not known and not counted.
        """
        steps_done = self._done - self._first_done
        if steps_done == 0:
            return None
        left = (total - self._done) * self._spent[Stage.DENOISING] / steps_done
        windows_done = self._window - 1 - self._first_done // self._steps
        if windows_done > 0:
            rest = sum(self._spent.values()) - self._spent[Stage.DENOISING]
            left += (self._windows - self._window + 1) * rest / windows_done
        return left
