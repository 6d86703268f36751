"""Engines that die, hang and are killed, and the one who keeps them going."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from infinitetalk.config import Settings
from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.jobfolder import create_job
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.host import LocalHost, slot_lock, supervisor_lock
from infinitetalk.jobs.locks import UserLock
from infinitetalk.jobs.model import MAX_LOSSES, Job, Status, cancel, start
from infinitetalk.jobs.supervisor import (
    MAX_BACKOFF_S,
    YOUNG_S,
    Command,
    Supervisor,
    engine_command,
)
from tests.end_to_end.reading import read_video
from tests.jobs.contract import staged
from tests.jobs.records import ENOUGH, NOW, SPEC, FakeClock, a_job
from tests.jobs.supervising import ROOT, stand_in_command
from tests.jobs.waiting import is_alive, until

HURRY = 20.0  # so much faster than real time pauses between engines pass


def hurried() -> float:
    return time.monotonic() * HURRY


class Yard:
    """A host with engines, one supervisor at a time, and what to look at in its processes."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.host = LocalHost.open(Settings(data=data))
        self.supervisor: Supervisor | None = None

    def supervise(self, command: Command | None = None, **options: Any) -> Supervisor:
        """Begin to look after engines, or go on after a stop."""
        settings = {k: options.pop(k) for k in ("engines", "stall_seconds") if k in options}
        options = {"monotonic": hurried, **options}
        self.supervisor = Supervisor(
            self.host,
            Settings(data=self.data, **settings),
            command or stand_in_command(self.data),
            **options,
        )
        return self.supervisor

    def stop(self) -> None:
        if self.supervisor is not None:
            self.supervisor.close()
            self.supervisor = None

    def until(self, condition: Callable[[], object]) -> None:
        """Look after the engines until the condition holds."""
        until(condition, meanwhile=self.supervisor.tick if self.supervisor else lambda: None)

    def until_ended(self, job: Job) -> Job:
        self.until(lambda: self.row(job).status.is_terminal)
        return self.row(job)

    def submit(self, prompt: str = "") -> Job:
        job = a_job(spec=replace(SPEC, prompt=prompt))
        with self.host.blobs.staging() as folder:
            self.host.blobs.adopt(staged(folder), job.id)
        return self.host.store.add(job, limit=ENOUGH)

    def until_working(self, job: Job) -> None:
        """Until it is in the middle of its steps."""

        def step() -> int:
            progress = self.row(job).progress
            return progress.step if progress else 0

        self.until(lambda: step() > 0)

    def let_end(self, job: Job) -> None:
        (self.host.blobs.folder(job.id).root / "enough").touch()

    def row(self, job: Job) -> Job:
        return self.host.store.get(job.id)

    def close(self) -> None:
        self.stop()
        self.host.close()


def engines(parent: int | None = None) -> list[psutil.Process]:
    """Engine processes of a parent, this one unless told."""
    return [child for child in psutil.Process(parent).children() if is_alive(child)]


def has_new_engine(before: set[int]) -> bool:
    return any(process.pid not in before for process in engines())


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    before = {process.pid for process in engines()}
    yard = Yard(tmp_path / "data")
    yield yard
    yard.close()
    assert {process.pid for process in engines()} <= before, "an engine was left behind"


def new_engine(before: set[int]) -> psutil.Process:
    (engine,) = [process for process in engines() if process.pid not in before]
    return engine


@pytest.fixture
def others() -> set[int]:
    """Children of this process that are no engines."""
    return {process.pid for process in engines()}


def test_a_killed_engine_is_replaced_and_the_next_one_goes_on(yard: Yard, others: set[int]) -> None:
    job, behind = yard.submit("work until told"), yard.submit()
    yard.supervise()
    yard.until_working(job)
    new_engine(others).kill()
    yard.until(lambda: yard.row(job).attempt == 2)
    yard.let_end(job)
    assert yard.until_ended(job).status is Status.COMPLETED
    assert (yard.row(job).losses, yard.until_ended(behind).attempt) == (1, 1)


def test_a_stop_hands_the_job_back_and_the_next_start_goes_on(yard: Yard) -> None:
    job, behind = yard.submit("work until told"), yard.submit()
    yard.supervise()
    yard.until_working(job)
    began = time.monotonic()
    yard.stop()
    assert time.monotonic() - began < 20
    assert (yard.row(job).status, yard.row(job).losses) == (Status.PENDING, 0)
    assert [yard.host.queue.position(waiting) for waiting in (job, behind)] == [0, 1]
    yard.let_end(job)
    yard.supervise()
    assert yard.until_ended(behind).status is Status.COMPLETED
    assert (yard.row(job).status, yard.row(job).attempt) == (Status.COMPLETED, 2)


def test_a_poison_job_fails_and_the_next_one_succeeds(yard: Yard) -> None:
    poison, good = yard.submit("poison"), yard.submit()
    yard.supervise()
    assert yard.until_ended(good).status is Status.COMPLETED
    ended = yard.row(poison)
    assert (ended.status, ended.attempt) == (Status.FAILED, MAX_LOSSES)
    assert ended.error is not None and ended.error.code == "worker_lost"


STALL_S = 100.0


class Watch:
    """A supervisor whose time passes only when told."""

    def __init__(self, yard: Yard, others: set[int]) -> None:
        self._yard = yard
        self._others = others
        self._clock = FakeClock(0.0)
        self._supervisor = yard.supervise(monotonic=self._clock, stall_seconds=STALL_S)
        self._supervisor.tick()
        self.engine = new_engine(others)

    def look(self, *, after_s: float = 0.0) -> None:
        self._clock.now += after_s
        self._supervisor.tick()

    def replace(self) -> None:
        """Look on until there is another engine."""
        known = self._others | {self.engine.pid}
        until(lambda: has_new_engine(known), meanwhile=lambda: self.look(after_s=1.0))
        self.engine = new_engine(known)


def test_an_engine_that_hangs_in_a_job_is_killed_and_the_job_goes_on(
    yard: Yard, others: set[int]
) -> None:
    job = yard.submit("hang once")
    watch = Watch(yard, others)
    until((yard.host.blobs.folder(job.id).root / "hung").exists)
    watch.look()
    watch.look(after_s=STALL_S)
    assert is_alive(watch.engine)
    watch.look(after_s=1.0)
    watch.replace()
    ended = yard.until_ended(job)
    assert (ended.status, ended.losses) == (Status.COMPLETED, 1)


def test_an_engine_that_hangs_in_loading_is_killed_too(yard: Yard, others: set[int]) -> None:
    job = yard.submit()
    (yard.data / "load").write_text("hang")
    watch = Watch(yard, others)
    until(lambda: not (yard.data / "load").exists())
    watch.look()
    watch.look(after_s=STALL_S + 1.0)
    watch.replace()
    ended = yard.until_ended(job)
    assert (ended.status, ended.attempt, ended.losses) == (Status.COMPLETED, 1, 0)


def test_an_engine_that_has_nothing_to_do_is_left_alone(yard: Yard, others: set[int]) -> None:
    watch = Watch(yard, others)
    until(lambda: [e.state for e in yard.host.engines.all()] == [EngineState.READY])
    for _ in range(3):
        watch.look(after_s=STALL_S + 1.0)
    job = yard.submit()
    yard.until_ended(job)
    assert is_alive(watch.engine)


def test_a_job_that_moves_is_never_taken_for_stuck(yard: Yard, others: set[int]) -> None:
    job = yard.submit("work until told")
    watch = Watch(yard, others)
    yard.until_working(job)
    for _ in range(3):
        before = yard.row(job).progress
        watch.look(after_s=STALL_S - 1.0)
        until(lambda before=before: yard.row(job).progress != before)
    yard.let_end(job)
    assert yard.until_ended(job).attempt == 1


def test_a_canceled_job_ends_at_once_and_one_that_waits_never_starts(yard: Yard) -> None:
    running, waiting, last = yard.submit("work until told"), yard.submit(), yard.submit()
    yard.supervise()
    yard.until_working(running)
    for job in (waiting, running):
        row = yard.row(job)
        until(lambda row=row: yard.host.store.replace(row, cancel(row, NOW)))
    assert yard.until_ended(last).status is Status.COMPLETED
    assert [yard.row(job).status for job in (running, waiting)] == [Status.CANCELED] * 2
    assert [yard.row(job).attempt for job in (running, waiting)] == [1, 0]


def test_every_slot_has_its_engine(yard: Yard) -> None:
    jobs = [yard.submit("work until told") for _ in range(2)]
    yard.supervise(engines=2)
    for job in jobs:
        yard.until_working(job)
    assert {yard.row(job).worker for job in jobs} == {"0", "1"}
    for job in jobs:
        yard.let_end(job)
        yard.until_ended(job)


def test_jobs_of_a_slot_that_is_gone_go_back_once_nobody_holds_it(yard: Yard) -> None:
    """Two engines ran here before; now there is one, and the other may still be ending."""
    job = yard.submit()
    assert yard.host.store.replace(job, start(job, "1", NOW))
    holder = UserLock(slot_lock(yard.data, "1"))
    assert holder.enter(0.0)
    supervisor = yard.supervise(idle_command)
    supervisor.tick()
    assert yard.row(job).status is Status.IN_PROGRESS
    holder.close()
    supervisor.tick()
    assert (yard.row(job).status, yard.row(job).losses) == (Status.PENDING, 1)


def idle_command(_: str) -> list[str]:
    return ["sleep", "1000"]


def test_an_engine_that_does_not_end_is_killed(yard: Yard, others: set[int]) -> None:
    yard.supervise(lambda _: ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], grace_s=0.3)
    yard.until(lambda: has_new_engine(others))
    engine = new_engine(others)
    until(lambda: "sleep" in [child.name() for child in engine.children()])
    yard.stop()
    assert not is_alive(engine)


def test_an_engine_that_cannot_start_is_tried_again_with_growing_pauses(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(0.0)
    starts: list[float] = []

    def command(_: str) -> list[str]:
        starts.append(clock.now)
        return ["false"]

    supervisor = yard.supervise(command, monotonic=clock)
    for second in range(250):
        clock.now = float(second)
        supervisor.tick()
        until(lambda: deaths(caplog) == len(starts), meanwhile=supervisor.tick)
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, MAX_BACKOFF_S]
    assert set(pauses[7:]) == {MAX_BACKOFF_S}


def deaths(caplog: pytest.LogCaptureFixture) -> int:
    """How often the supervisor noticed the end of an engine."""
    return caplog.text.count("ended with")


def test_an_engine_that_lived_long_is_replaced_soon(
    yard: Yard, others: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(0.0)
    supervisor = yard.supervise(idle_command, monotonic=clock)
    for count in range(1, 6):
        supervisor.tick()
        clock.now += YOUNG_S
        new_engine(others).kill()
        until(lambda count=count: deaths(caplog) == count, meanwhile=supervisor.tick)
        clock.now += 1.0
    supervisor.tick()
    assert is_alive(new_engine(others))


# supervisors in processes of their own


@contextmanager
def supervising(data: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.jobs.supervising", str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def test_when_its_supervisor_is_killed_an_engine_ends_and_another_takes_over(yard: Yard) -> None:
    """Two servers on one data folder have one engine, whatever happens to them."""
    job, behind = yard.submit("work until told"), yard.submit()
    with supervising(yard.data) as first:
        yard.until_working(job)
        (engine,) = engines(first.pid)
        with supervising(yard.data) as second:
            until(lambda: stands_by(second.pid, yard.data))
            assert engines(second.pid) == []
            first.kill()
            until(lambda: not is_alive(engine), patience_s=20)
            until(lambda: yard.row(job).attempt == 2)
            heirs = engines(second.pid)
            assert len(heirs) == 1
            yard.let_end(job)
            assert yard.until_ended(behind).status is Status.COMPLETED
    assert (yard.row(job).status, yard.row(job).losses) == (Status.COMPLETED, 0)
    assert not is_alive(heirs[0])


def stands_by(pid: int, data: Path) -> bool:
    """Whether a process has the supervisor's lock open, which here means that it waits for it."""
    opened = [file.path for file in psutil.Process(pid).open_files()]
    return str(supervisor_lock(data)) in opened


# the true engine, by its true command


def test_the_engine_of_a_preset_renders(
    yard: Yard,
    tmp_path: Path,
    make_track: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFINITETALK_DATA", str(yard.data))
    monkeypatch.setenv("INFINITETALK_HOME", str(tmp_path / "home"))
    job = yard.submit()
    draw_portrait(160).save(tmp_path / "portrait.png")
    folder = yard.host.blobs.folder(job.id)
    folder.remove()
    create_job(folder, SPEC, tmp_path / "portrait.png", [make_track(1.0)], Settings())
    yard.supervise(engine_command("tiny"))
    ended = yard.until_ended(job)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)
    video = read_video(folder.result)
    assert (len(video.frames), np.ptp(video.frames) > 0) == (25, True)
    assert job.id in video.comment
