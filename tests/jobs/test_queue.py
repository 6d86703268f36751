"""The order of jobs on one host, and who holds them."""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import MAX_LOSSES, Job, Status, cancel, complete, hand_back
from infinitetalk.jobs.queue import LocalQueue
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.records import DAY_S, ENOUGH, NOW, STEP, VIDEO, FakeClock, a_job


def add(store: SqliteJobStore, count: int) -> list[Job]:
    return [store.add(a_job(), limit=ENOUGH) for _ in range(count)]


def lease(queue: LocalQueue, worker: str = "0") -> Job:
    job = queue.lease(worker)
    assert job is not None
    return job


def test_jobs_run_in_the_order_they_came(queue: LocalQueue, store: SqliteJobStore) -> None:
    jobs = add(store, 5)
    assert [lease(queue).id for _ in jobs] == [job.id for job in jobs]
    assert queue.lease("0") is None


def test_a_leased_job_is_the_workers_and_the_row_says_so(
    queue: LocalQueue, store: SqliteJobStore, clock: FakeClock
) -> None:
    add(store, 1)
    job = lease(queue, "7")
    assert (job.status, job.worker, job.attempt) == (Status.IN_PROGRESS, "7", 1)
    assert job.executed_at == clock.now
    assert store.get(job.id) == job
    assert queue.workers() == ["7"]


def test_a_job_that_comes_back_keeps_its_place(queue: LocalQueue, store: SqliteJobStore) -> None:
    first, second, third = add(store, 3)
    leased = lease(queue)
    store.replace(leased, hand_back(leased))
    assert [lease(queue).id for _ in range(3)] == [first.id, second.id, third.id]


def test_a_canceled_job_is_never_leased(queue: LocalQueue, store: SqliteJobStore) -> None:
    canceled, other = add(store, 2)
    store.replace(canceled, cancel(canceled, NOW))
    assert lease(queue).id == other.id
    assert queue.lease("0") is None
    assert store.get(canceled.id).attempt == 0


def test_many_workers_never_get_the_same_job(database: Database, store: SqliteJobStore) -> None:
    jobs = add(store, 60)
    queues = [LocalQueue(database, store, FakeClock()) for _ in range(6)]

    def drain(worker: int) -> list[str]:
        taken = []
        while (job := queues[worker].lease(str(worker))) is not None:
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(len(queues)) as workers:
        taken = Counter(name for names in workers.map(drain, range(len(queues))) for name in names)
    assert taken == {job.id: 1 for job in jobs}


def test_positions_of_five_hundred_jobs(queue: LocalQueue, store: SqliteJobStore) -> None:
    """Some run, some ended, some came back."""
    jobs = add(store, 500)
    running, back = lease(queue), lease(queue)
    store.replace(back, hand_back(back))
    for job in jobs[10:20]:
        store.replace(job, cancel(job, NOW))
    waiting = [back, *jobs[2:10], *jobs[20:]]
    assert [queue.position(job) for job in waiting] == list(range(489))
    assert queue.position(running) is None
    assert queue.position(jobs[10]) is None
    assert queue.position(a_job()) is None


def test_enqueuing_changes_nothing_however_often(queue: LocalQueue, store: SqliteJobStore) -> None:
    first, second = add(store, 2)
    for job in (second, first, second):
        queue.enqueue(job)
    assert [queue.position(job) for job in (first, second)] == [0, 1]


def test_the_age_of_the_queue_is_that_of_its_first_job(
    queue: LocalQueue, store: SqliteJobStore, clock: FakeClock
) -> None:
    assert queue.oldest_s() == 0.0
    add(store, 2)
    clock.now += 60
    assert queue.oldest_s() == 60.0
    clock.now -= DAY_S
    assert queue.oldest_s() == 0.0


def test_what_a_dead_worker_held_is_taken_back_as_a_loss(
    queue: LocalQueue, store: SqliteJobStore
) -> None:
    add(store, 2)
    dead, alive = lease(queue, "0"), lease(queue, "1")
    store.report(dead, STEP, dead.usage)
    (lost,) = queue.recover("0")
    assert (lost.id, lost.status, lost.losses) == (dead.id, Status.PENDING, 1)
    assert lost.progress == STEP, "what it reported is still known"
    assert store.get(lost.id) == lost
    assert store.get(alive.id) == alive
    assert queue.recover("0") == []


def test_a_job_that_kills_every_engine_fails_and_says_so_in_the_log(
    queue: LocalQueue, store: SqliteJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, 1)
    with caplog.at_level(logging.INFO):
        for _ in range(MAX_LOSSES):
            leased = lease(queue)
            (job,) = queue.recover("0")
    assert (job.status, job.attempt) == (Status.FAILED, MAX_LOSSES)
    assert job.error is not None and job.error.code == "worker_lost" and job.error.retryable
    assert caplog.text.count('"event": "job.finished"') == 1
    assert not store.replace(leased, complete(leased, VIDEO, leased.usage, NOW))


def test_what_a_worker_releases_is_no_loss(queue: LocalQueue, store: SqliteJobStore) -> None:
    first, _ = add(store, 2)
    leased = lease(queue)
    (released,) = queue.release("0")
    assert (released.id, released.status, released.losses) == (first.id, Status.PENDING, 0)
    assert not store.replace(leased, complete(leased, VIDEO, leased.usage, NOW))
    assert lease(queue).id == first.id


def test_nothing_is_taken_back_from_one_who_holds_nothing(
    queue: LocalQueue, store: SqliteJobStore
) -> None:
    jobs = add(store, 1)
    assert (queue.recover("0"), queue.release("0"), queue.workers()) == ([], [], [])
    assert store.find() == jobs
