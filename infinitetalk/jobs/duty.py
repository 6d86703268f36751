"""A loop that exactly one process of this host runs, whoever gets its lock first.

With several servers on one data folder the others stand by and take over when the holder dies.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from infinitetalk.jobs.locks import holding

MAX_PAUSE_S = 30.0
log = logging.getLogger(__name__)


class Duty:
    """Calls `step` every `period_s` seconds while this process holds the lock.

    An error is logged and the next step comes, later with every error in a row: a full disk today
    must not end the duty, and a broken one must not fill the log.

    Args:
        at_end: called once when this process gives the duty up.
    """

    def __init__(
        self,
        name: str,
        lock: Path,
        step: Callable[[], None],
        *,
        period_s: float,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._lock = lock
        self._step = step
        self._period_s = period_s
        self._at_end = at_end
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Make it end soon; does not wait."""
        self._stopping.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """End it and wait."""
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._repeat(self._hold)

    def _hold(self) -> None:
        """From getting the lock to the end of this process's duty."""
        with holding(self._lock, until=self._stopping) as is_held:
            if not is_held:
                return
            try:
                self._repeat(self._step)
            finally:
                self._at_end()

    def _repeat(self, act: Callable[[], None]) -> None:
        pause_s = self._period_s
        while not self._stopping.is_set():
            try:
                act()
                pause_s = self._period_s
            except Exception:
                log.exception("%s met an error and goes on", self._thread.name)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            self._stopping.wait(pause_s)
