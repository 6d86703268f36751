"""The engine process: loads one model, then runs waiting jobs one after another.

    python -m infinitetalk.jobs.worker --slot 0 --preset demo

It holds a kernel lock under its slot's name for as long as it lives, so there is one engine for
each GPU and a dead one is known to be dead. Standard input is a pipe from its parent: at its end,
when the parent changed, on SIGTERM and on SIGINT it finishes the denoising step, hands the job
back and exits 0. What takes longer than `GRACE_S` seconds is cut off, the job handed back too.
After a fault it exits with FAULT_EXIT, because what a broken device computes next cannot be
trusted.

The only module of `jobs` that loads torch.
"""

import argparse
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import NoReturn

from infinitetalk.config import Settings, let_idle_threads_sleep, load_settings
from infinitetalk.errors import InfiniteTalkError, StorageFull, StoreBusy, Unavailable, WorkerLost
from infinitetalk.jobs.engines import Engine, EngineState, ready
from infinitetalk.jobs.execute import EngineFault, Renderer, execute
from infinitetalk.jobs.host import LocalHost, slot_lock
from infinitetalk.jobs.locks import holding, is_held
from infinitetalk.jobs.model import Job, Status
from infinitetalk.jobs.pricing import price_per_second

GRACE_S = 19.0  # one less than is promised
IDLE_S = 0.2  # between two looks at an empty queue
PAUSE_S = 2.0  # after a passing fault such as a full disk, doubled with each of a job's losses
ROOM_SHARE = 0.25  # of the free disk that accepting a job takes; what is above is for rendering
PARENT_S = 1.0  # between two looks at who the parent is
FAULT_EXIT = 70
log = logging.getLogger(__name__)

Load = Callable[[str, Settings], Renderer]


def load_runner(preset: str, settings: Settings) -> Renderer:
    """The model of this deployment."""
    from infinitetalk.runner import Runner

    return Runner.load(preset, settings, _log_loading)


def _log_loading(network: str, done: int, total: int) -> None:
    if done == total:
        log.info("loaded %s, %.2f GB", network, total / 1e9)


def main(
    arguments: Sequence[str] | None = None, load: Load = load_runner, grace_s: float = GRACE_S
) -> int:
    """Run until asked to stop; the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    let_idle_threads_sleep()
    stopping = threading.Event()
    _listen(stopping)
    try:
        settings = _settings_of_slot(load_settings(), options.slot)
        lock = slot_lock(settings.data_folder, options.slot)
        if is_held(lock):
            log.info("the engine of slot %s waits for the engine before it", options.slot)
        with holding(lock, until=stopping) as is_ours:
            if not is_ours:
                return 0
            with closing(LocalHost.open(settings)) as host:
                _limit_stop(stopping, grace_s, lambda: host.queue.release(options.slot))
                return _Engine(options.slot, options.preset, settings, host, stopping).run(load)
    except InfiniteTalkError as error:
        log.error("%s (%s)", error.message, error.code)
        return error.exit_code


def leave(code: int) -> NoReturn:
    """End the process without the libraries' own last words: a broken device never lets them go."""
    logging.shutdown()
    os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infinitetalk.jobs.worker")
    parser.add_argument("--slot", required=True, help="name of this engine on this host: 0, 1, ...")
    parser.add_argument("--preset", required=True, help="which model to load")
    return parser


class _Engine:
    """One slot's engine, from loading to its end."""

    def __init__(
        self, slot: str, preset: str, settings: Settings, host: LocalHost, stopping: threading.Event
    ) -> None:
        self._slot = slot
        self._preset = preset
        self._settings = settings
        self._host = host
        self._stopping = stopping

    def run(self, load: Load) -> int:
        try:
            self._host.queue.recover(self._slot)
            self._post(EngineState.LOADING)
            renderer = load(self._preset, self._settings)
            self._post(EngineState.READY, renderer)
            self._serve(renderer)
        except EngineFault:
            return self._fail(FAULT_EXIT, WorkerLost.code)
        except InfiniteTalkError as error:
            return self._fail(error.exit_code, error.code)
        except Exception:
            return self._fail(1, InfiniteTalkError.code)
        self._post(EngineState.STOPPED)
        return 0

    def _serve(self, renderer: Renderer) -> None:
        price = price_per_second(renderer.gpu, self._settings)
        while not self._stopping.is_set():
            job = self._lease()
            if job is None:
                self._stopping.wait(IDLE_S)
                continue
            ended = execute(
                job,
                self._host.store,
                self._host.blobs,
                renderer,
                price_per_second=price,
                stopping=self._stopping.is_set,
            )
            if ended.status is Status.PENDING and ended.losses > job.losses:
                self._stopping.wait(PAUSE_S * 2**job.losses)

    def _lease(self) -> Job | None:
        """The next job. On a full disk it waits, for every job would fail there in its turn; and
        a store that cannot be written now is no reason to load a model again.
        """
        try:
            self._require_room()
            return self._host.queue.lease(self._slot)
        except (StoreBusy, StorageFull) as error:
            log.warning("no job can be taken: %s", error.message)
            self._stopping.wait(PAUSE_S)
            return None

    def _require_room(self) -> None:
        needed = ROOM_SHARE * self._settings.min_free_gigabytes * 1e9
        if self._host.blobs.free_bytes() < needed:
            raise StorageFull("The disk has no room to render.")

    def _fail(self, exit_code: int, code: str) -> int:
        log.exception("the engine of slot %s ends: %s", self._slot, code)
        with suppress(Unavailable):
            self._post(EngineState.FAILED, error=code)
        return exit_code

    def _post(
        self, state: EngineState, renderer: Renderer | None = None, error: str | None = None
    ) -> None:
        engine = Engine(self._slot, state, os.getpid(), time.time(), self._preset, error=error)
        self._host.engines.post(engine if renderer is None else ready(engine, renderer))


def _settings_of_slot(settings: Settings, slot: str) -> Settings:
    """With several engines, each one takes the GPU of its number."""
    if settings.engines > 1 and settings.device in ("auto", "cuda"):
        return replace(settings, device=f"cuda:{slot}")
    return settings


def _listen(stopping: threading.Event) -> None:
    """Notice in a thread that the process has to stop, whatever the main thread is at."""
    signals, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)  # a handler of Python would wait for the main thread
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    wait = threading.Thread(target=_wait, args=(signals, os.getppid(), stopping), daemon=True)
    wait.start()


def _wait(signals: int, parent: int, stopping: threading.Event) -> None:
    """The parent holds the other end of standard input for as long as it lives."""
    while os.getppid() == parent:
        if select.select([sys.stdin, signals], [], [], PARENT_S)[0]:
            break
    stopping.set()


def _limit_stop(stopping: threading.Event, grace_s: float, hand_back: Callable[[], object]) -> None:
    """Once the process has to stop, end it in time, even in the middle of a step."""

    def end() -> None:
        stopping.wait()
        time.sleep(grace_s)
        try:
            hand_back()
        finally:
            leave(1)

    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    leave(main())
