"""What a fleet does on a schedule, and what it does for a job that has just ended."""

import json
import logging
import time
from collections.abc import Iterator

import pytest

from infinitetalk.config import Settings
from infinitetalk.fleet.chores import deliver, sweep, tend
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.model import Job, cancel
from infinitetalk.jobs.outbox import Kind, State
from tests.jobs.contract import put
from tests.jobs.fleet_containers import Containers
from tests.jobs.records import DAY_S, ENOUGH, FakeClock, a_job
from tests.serving.playing import FileServer, file_server

WITHIN_S = 60.0


@pytest.fixture
def receiver() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def settings(receiver: FileServer) -> Settings:
    return Settings(fetch_allowed_hosts=(receiver.address,))


@pytest.fixture
def clock() -> FakeClock:
    """Chores go by the clock of the machine."""
    return FakeClock(time.time())


class Waiting:
    """Time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def owing(host: ModalHost, receiver: FileServer) -> Job:
    """A job that waits, and whose end somebody wants to hear of."""
    job = a_job(created_at=time.time())
    host.outbox.promise(job.id, Kind.WEBHOOK, f"{receiver.url}/hook")
    return host.store.add(job, limit=ENOUGH)


def end(host: ModalHost, job: Job) -> Job:
    return put(host.store, job, cancel(job, time.time()))


def told(receiver: FileServer) -> list[str]:
    """Of which jobs the receiver heard."""
    return [json.loads(body)["task_id"] for *_, body in receiver.received]


def test_tending_calls_for_lost_jobs_and_brings_out_what_is_owed(
    host: ModalHost, containers: Containers, settings: Settings, receiver: FileServer
) -> None:
    lost, done = host.store.add(a_job(), limit=ENOUGH), owing(host, receiver)
    host.queue.enqueue(lost)
    containers.calls.end("fc-1")
    end(host, done)
    tend(host, settings)
    assert containers.calls.of(lost.id) == ["fc-1", "fc-2"]
    assert told(receiver) == [done.id]
    assert host.outbox.states(done.id) == {Kind.WEBHOOK: State.DELIVERED}


def test_what_is_owed_for_a_job_is_brought_out_at_once_and_once(
    host: ModalHost, settings: Settings, receiver: FileServer
) -> None:
    job, waiting = end(host, owing(host, receiver)), Waiting()
    for _ in range(2):
        deliver(host, settings, job.id, within_s=WITHIN_S, sleep=waiting.sleep, monotonic=waiting)
    assert told(receiver) == [job.id]
    assert waiting.now < WITHIN_S


def test_it_is_tried_until_time_is_up_and_stays_owed(
    host: ModalHost, settings: Settings, receiver: FileServer
) -> None:
    job, waiting = end(host, owing(host, receiver)), Waiting()
    receiver.answers = [503] * 9
    deliver(host, settings, job.id, within_s=WITHIN_S, sleep=waiting.sleep, monotonic=waiting)
    assert set(told(receiver)) == {job.id}
    assert host.outbox.states(job.id) == {Kind.WEBHOOK: State.WAITING}
    assert waiting.now >= WITHIN_S


def test_a_job_that_ends_meanwhile_is_told_of(
    host: ModalHost, settings: Settings, receiver: FileServer
) -> None:
    job, waiting = owing(host, receiver), Waiting()

    def sleep(seconds: float) -> None:
        if waiting.now == 0.0:
            end(host, job)
        waiting.sleep(seconds)

    deliver(host, settings, job.id, within_s=WITHIN_S, sleep=sleep, monotonic=waiting)
    assert told(receiver) == [job.id]
    assert waiting.now < WITHIN_S


def test_for_a_job_that_owes_nothing_nothing_is_done(host: ModalHost, settings: Settings) -> None:
    waiting = Waiting()
    deliver(host, settings, "0" * 32, within_s=9, sleep=waiting.sleep, monotonic=waiting)
    assert waiting.now == 0.0


def test_sweeping_tells_how_many_jobs_were_over_their_time(
    host: ModalHost, caplog: pytest.LogCaptureFixture
) -> None:
    old, fresh = (host.store.add(a_job(), limit=ENOUGH) for _ in range(2))
    put(host.store, old, cancel(old, time.time() - 2 * DAY_S))
    kept = end(host, fresh)
    with caplog.at_level(logging.INFO):
        sweep(host, Settings(retention_hours=24))
    assert host.store.find() == [kept]
    assert host.store.get(old.id).erased_at is not None
    assert "1 jobs were over their time" in caplog.text
