"""The order of waiting jobs and who holds the running ones.

A lease ends with its holder: every worker holds a kernel lock under its name for as long as it
lives, so neither a clock nor a missed heartbeat decides whether a job is lost. A job that comes
back keeps its place, for its row keeps its number.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from infinitetalk.errors import WorkerLost
from infinitetalk.jobs import journal
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import Clock, Job, Problem, hand_back, job_from_json, lose, start
from infinitetalk.jobs.store import SqliteJobStore

LOST = Problem.of(WorkerLost("The engine died under this job several times."))
log = logging.getLogger(__name__)


class JobQueue(Protocol):
    """What the service asks of a queue."""

    def enqueue(self, job: Job) -> None:
        """Make a committed job run; twice is as good as once."""

    def position(self, job: Job) -> int | None:
        """How many jobs run before a waiting one; None when it does not wait."""

    def oldest_s(self) -> float:
        """How long the first waiting job has waited, in seconds; 0 with none."""

    def withdraw(self, job: Job) -> None:
        """Tell whoever sees to a job that was canceled."""


class LocalQueue:
    """The queue of one host: the pending rows of the store, by number."""

    def __init__(self, database: Database, store: SqliteJobStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    def enqueue(self, job: Job) -> None:
        """Nothing is to be done: a pending row is in the queue."""

    def position(self, job: Job) -> int | None:
        rows = self._database.read(
            "SELECT (SELECT count(*) FROM jobs AS ahead "
            "WHERE ahead.status = 'pending' AND ahead.seq < jobs.seq) AS ahead "
            "FROM jobs WHERE id = ? AND status = 'pending'",
            (job.id,),
        )
        return int(rows[0]["ahead"]) if rows else None

    def oldest_s(self) -> float:
        sql = "SELECT created_at FROM jobs WHERE status = 'pending' ORDER BY seq LIMIT 1"
        rows = self._database.read(sql)
        return max(0.0, self._clock() - rows[0]["created_at"]) if rows else 0.0

    def withdraw(self, job: Job) -> None:
        """Nothing is to be done: the engine asks at every step."""

    def lease(self, worker: str) -> Job | None:
        """The oldest waiting job, now the worker's; None when none waits."""
        sql = "SELECT record FROM jobs WHERE status = 'pending' ORDER BY seq LIMIT 1"
        while rows := self._database.read(sql):
            waiting = job_from_json(rows[0]["record"])
            leased = start(waiting, worker, self._clock())
            if self._store.replace(waiting, leased):
                return leased
        return None

    def workers(self) -> list[str]:
        """Who holds jobs by the rows."""
        sql = "SELECT DISTINCT worker FROM jobs WHERE status = 'in_progress'"
        return [row["worker"] for row in self._database.read(sql)]

    def recover(self, worker: str) -> list[Job]:
        """Take back what a dead worker held, which is a loss; the jobs as they are now."""
        taken = self._take_back(worker, lambda job: lose(job, LOST, self._clock()))
        for job in taken:
            log.warning("job %s was lost with its engine, it is now %s", job.id, job.status)
            if job.status.is_terminal:
                journal.record(job)
        return taken

    def release(self, worker: str) -> list[Job]:
        """Put back what a worker holds that has to end at once; that is no loss."""
        return self._take_back(worker, hand_back)

    def _take_back(self, worker: str, put_back: Callable[[Job], Job]) -> list[Job]:
        sql = "SELECT record FROM jobs WHERE status = 'in_progress' AND worker = ?"
        held = [job_from_json(row["record"]) for row in self._database.read(sql, (worker,))]
        changes = [(job, put_back(job)) for job in held]
        return [taken for job, taken in changes if self._store.replace(job, taken)]
