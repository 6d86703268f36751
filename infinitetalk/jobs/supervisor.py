"""Keeps one engine process alive for each slot: starts it, ends it, replaces it.

    engine exits        -> its job goes back by its lock; a new one starts, later with every death
    engine is stuck     -> killed after `stall_s` without progress on its job or in loading
    supervisor stops    -> SIGTERM, the engine hands its job back; SIGKILL after `GRACE_S`
    supervisor is gone  -> the engine's standard input ends, so it stops by itself

Only the process that holds the supervisor's lock does this (see `duty`).
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infinitetalk.config import Settings
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.host import LocalHost, slot_lock
from infinitetalk.jobs.locks import is_held
from infinitetalk.jobs.model import Status

GRACE_S = 22.0  # an engine cuts itself off before that
BACKOFF_S = 1.0  # before an engine that died young is started again, doubled each time
MAX_BACKOFF_S = 60.0
YOUNG_S = 30.0
log = logging.getLogger(__name__)

Command = Callable[[str], Sequence[str]]
"""Slot -> the command line of its engine."""


def engine_command(preset: str) -> Command:
    """How engines of a preset are started."""
    return lambda slot: [
        *(sys.executable, "-m", "infinitetalk.jobs.worker"),
        *("--slot", slot, "--preset", preset),
    ]


@dataclass(slots=True)
class _Slot:
    """One engine and when the next one may start."""

    name: str
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    not_before: float = 0.0
    deaths: int = 0  # in a row, each soon after its start
    moment: object = None  # the last progress that was seen
    moved_at: float = 0.0


class Supervisor:
    """The engines of one host.

    Args:
        grace_s: what an engine gets to end by itself.
        monotonic: seconds; nothing here depends on the time of day.
    """

    def __init__(
        self,
        host: LocalHost,
        settings: Settings,
        command: Command,
        *,
        grace_s: float = GRACE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._data = settings.data_folder
        self._stall_s = settings.stall_seconds
        self._command = command
        self._grace_s = grace_s
        self._monotonic = monotonic
        self._slots = [_Slot(str(number)) for number in range(settings.engines)]

    def tick(self) -> None:
        """Look after every slot once."""
        self._recover_unused()
        for slot in self._slots:
            if slot.process is None:
                self._start_when_due(slot)
            elif (code := slot.process.poll()) is not None:
                self._note_death(slot, code)
            else:
                self._kill_when_stuck(slot)

    def close(self) -> None:
        """End every engine; its job is handed back."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        deadline = self._monotonic() + self._grace_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - self._monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close_pipe(process)

    def _recover_unused(self) -> None:
        """Jobs of slots that no engine serves any more, such as after a change of settings."""
        ours = {slot.name for slot in self._slots}
        for worker in set(self._host.queue.workers()) - ours:
            if not is_held(slot_lock(self._data, worker)):
                self._host.queue.recover(worker)

    def _start_when_due(self, slot: _Slot) -> None:
        now = self._monotonic()
        if now < slot.not_before:
            return
        slot.process = subprocess.Popen(
            self._command(slot.name),
            stdin=subprocess.PIPE,  # never written to: its end tells the engine that we are gone
            start_new_session=True,  # Ctrl-C is for us; we pass it on in order
        )
        slot.started_at = slot.moved_at = now
        log.info("engine %s started, pid %d", slot.name, slot.process.pid)

    def _note_death(self, slot: _Slot, code: int) -> None:
        assert slot.process is not None
        _close_pipe(slot.process)
        slot.process = None
        now = self._monotonic()
        slot.deaths = slot.deaths + 1 if now - slot.started_at < YOUNG_S else 1
        slot.not_before = now + min(BACKOFF_S * 2 ** (slot.deaths - 1), MAX_BACKOFF_S)
        wait_s = slot.not_before - now
        log.warning("engine %s ended with %d, next in %.0f s", slot.name, code, wait_s)

    def _kill_when_stuck(self, slot: _Slot) -> None:
        """A running job whose record does not move means a hung device."""
        assert slot.process is not None
        now = self._monotonic()
        moment = self._moment(slot.name, slot.process.pid)
        if moment is None or moment != slot.moment:
            slot.moment, slot.moved_at = moment, now
        elif now - slot.moved_at > self._stall_s:
            log.error("engine %s makes no progress and is killed", slot.name)
            slot.process.kill()

    def _moment(self, worker: str, pid: int) -> object:
        """What has to change now and then; None for an engine that has nothing to do."""
        running = self._host.store.find(Status.IN_PROGRESS)
        held = [(job.id, job.attempt, job.progress) for job in running if job.worker == worker]
        engines = self._host.engines.all()
        is_ready = any(
            engine.pid == pid and engine.state is EngineState.READY for engine in engines
        )
        return held or (None if is_ready else "loading")


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
