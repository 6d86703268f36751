"""Any order of calls on the store and the queue, against a model of a few lines.

Leases are kept after they are over, as an engine that was thought dead keeps them, and are used
again later: whatever it then tries must change nothing.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from infinitetalk.errors import IdempotencyMismatch, QueueFull
from infinitetalk.jobs import retention
from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import (
    MAX_LOSSES,
    Job,
    Status,
    cancel,
    complete,
    fail,
    hand_back,
    lose,
)
from infinitetalk.jobs.outbox import SqliteOutbox
from infinitetalk.jobs.queue import LocalQueue
from infinitetalk.jobs.retention import Retention
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.records import DAY_S, PROBLEM, STEP, VIDEO, FakeClock, a_job

LIMIT = 4  # jobs that may wait
KEEP_S = 3 * DAY_S
WORKERS = st.sampled_from(["0", "1"])


@dataclass
class Known:
    """What the model knows of an acknowledged job."""

    key: str | None
    fingerprint: str
    status: Status = Status.PENDING
    attempt: int = 0
    losses: int = 0
    worker: str | None = None
    ended_at: float = 0.0
    is_erased: bool = False

    def end(self, status: Status, now: float) -> None:
        assert not self.status.is_terminal
        self.status, self.ended_at = status, now

    def back(self) -> None:
        self.status, self.worker = Status.PENDING, None

    def lose(self, now: float) -> None:
        self.losses += 1
        if self.losses == MAX_LOSSES:
            self.end(Status.FAILED, now)
        else:
            self.back()


@dataclass
class Model:
    """Acknowledged jobs in the order they came."""

    jobs: dict[str, Known] = field(default_factory=dict)

    def ids(self, *statuses: Status) -> list[str]:
        return [name for name, job in self.jobs.items() if job.status in statuses]

    def has(self, lease: Job) -> bool:
        """Whether a lease is still good."""
        job = self.jobs[lease.id]
        return (job.status, job.attempt) == (Status.IN_PROGRESS, lease.attempt)


class JobsOfOneHost(RuleBasedStateMachine):
    leases: Bundle[Job] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.model = Model()
        self.blobs = DirectoryBlobStore(Path(self.folder.name))
        self.open()

    def open(self) -> None:
        self.database = Database(Path(self.folder.name) / "jobs.db")
        self.store = SqliteJobStore(self.database)
        self.queue = LocalQueue(self.database, self.store, self.clock)
        self.outbox = SqliteOutbox(self.database)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    # callers

    @rule(key=st.sampled_from([None, None, "k1", "k2"]), fingerprint=st.sampled_from("ab"))
    def submit(self, key: str | None, fingerprint: str) -> None:
        self.clock.now += 1
        job = a_job(idempotency_key=key, fingerprint=fingerprint, created_at=self.clock.now)
        holders = [
            (name, known)
            for name, known in self.model.jobs.items()
            if key is not None and known.key == key and not known.is_erased
        ]
        if holders:
            ((name, known),) = holders
            if known.fingerprint == fingerprint:
                assert self.store.add(job, limit=LIMIT).id == name
            else:
                with pytest.raises(IdempotencyMismatch):
                    self.store.add(job, limit=LIMIT)
        elif len(self.model.ids(Status.PENDING)) >= LIMIT:
            with pytest.raises(QueueFull):
                self.store.add(job, limit=LIMIT)
        else:
            assert self.store.add(job, limit=LIMIT) == job
            self.model.jobs[job.id] = Known(key, fingerprint)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model.jobs)))
        job, known = self.store.get(name), self.model.jobs[name]
        if known.status.is_terminal:
            return
        assert self.store.replace(job, cancel(job, self.clock.now))
        known.end(Status.CANCELED, self.clock.now)

    @precondition(lambda self: self.model.ids(*retention.ENDED))
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.model.ids(*retention.ENDED)))
        job, known = self.store.get(name), self.model.jobs[name]
        if not known.is_erased:
            assert retention.expire(job, self.store, self.blobs, self.outbox, self.clock.now)
            known.is_erased = True

    # engines

    @rule(target=leases, worker=WORKERS)
    def lease(self, worker: str) -> Job:
        job = self.queue.lease(worker)
        waiting = self.model.ids(Status.PENDING)
        if job is None:
            assert not waiting
            return a_job(id="none")
        assert job.id == waiting[0]
        known = self.model.jobs[job.id]
        known.status, known.worker = Status.IN_PROGRESS, worker
        known.attempt += 1
        assert job.attempt == known.attempt
        return job

    @rule(lease=leases)
    def report(self, lease: Job) -> None:
        if lease.id != "none":
            assert self.store.report(lease, STEP, lease.usage) == self.model.has(lease)

    @rule(lease=leases)
    def finish(self, lease: Job) -> None:
        now = self.clock.now
        self.put_end(
            lease,
            lambda job: complete(job, VIDEO, job.usage, now),
            lambda known: known.end(Status.COMPLETED, now),
        )

    @rule(lease=leases)
    def fail(self, lease: Job) -> None:
        now = self.clock.now
        self.put_end(
            lease,
            lambda job: fail(job, PROBLEM, now),
            lambda known: known.end(Status.FAILED, now),
        )

    @rule(lease=leases)
    def lose(self, lease: Job) -> None:
        now = self.clock.now
        self.put_end(lease, lambda job: lose(job, PROBLEM, now), lambda known: known.lose(now))

    @rule(lease=leases)
    def hand_back(self, lease: Job) -> None:
        self.put_end(lease, hand_back, Known.back)

    def put_end(
        self, lease: Job, change: Callable[[Job], Job], expect: Callable[[Known], None]
    ) -> None:
        """What an attempt wants to be its end counts only while its lease is good."""
        if lease.id == "none":
            return
        is_good = self.model.has(lease)
        assert self.store.replace(lease, change(lease)) == is_good
        if is_good:
            expect(self.model.jobs[lease.id])

    @rule(worker=WORKERS, is_loss=st.booleans())
    def take_back(self, worker: str, is_loss: bool) -> None:
        held = [
            name
            for name in self.model.ids(Status.IN_PROGRESS)
            if self.model.jobs[name].worker == worker
        ]
        taken = self.queue.recover(worker) if is_loss else self.queue.release(worker)
        assert sorted(job.id for job in taken) == sorted(held)
        for name in held:
            known = self.model.jobs[name]
            known.lose(self.clock.now) if is_loss else known.back()

    # the host

    @rule(days=st.sampled_from([-1, 1]))
    def clock_jumps(self, days: int) -> None:
        self.clock.now += days * DAY_S

    @rule()
    def sweep(self) -> None:
        now = self.clock.now
        kept = Retention(KEEP_S, 1e12)
        count = retention.sweep(self.store, self.blobs, self.outbox, kept, now)
        expired = 0
        for name in self.model.ids(*retention.ENDED):
            known = self.model.jobs[name]
            known.ended_at = min(known.ended_at, now)
            if not known.is_erased and now - known.ended_at > KEEP_S:
                known.is_erased = True
                expired += 1
        assert count == expired

    @rule(is_killed=st.booleans())
    def restart(self, is_killed: bool) -> None:
        before = self.database
        if not is_killed:
            before.close()
        self.open()
        if is_killed:  # the new one must not need the old one's good bye
            before.close()

    # always

    @invariant()
    def every_acknowledged_job_is_where_the_model_has_it(self) -> None:
        for name, known in self.model.jobs.items():
            job = self.store.get(name)
            assert (job.status, job.attempt, job.losses) == (
                *(known.status, known.attempt, known.losses),
            )
            assert (job.erased_at is not None) == known.is_erased
            assert job.status.is_terminal == (job.completed_at is not None)
            assert (job.result is not None) == (job.status is Status.COMPLETED)
            assert (job.error is not None) == (job.status is Status.FAILED)

    @invariant()
    def lists_agree_with_the_rows(self) -> None:
        waiting = self.store.find(Status.PENDING)
        assert [job.id for job in waiting] == self.model.ids(Status.PENDING)
        assert [self.queue.position(job) for job in waiting] == list(range(len(waiting)))
        there = [known for known in self.model.jobs.values() if not known.is_erased]
        counts = self.store.counts()
        assert counts == {s: sum(known.status is s for known in there) for s in Status}
        held = {known.worker for known in there if known.status is Status.IN_PROGRESS}
        assert set(self.queue.workers()) == held


JobsOfOneHost.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestJobsOfOneHost = JobsOfOneHost.TestCase
