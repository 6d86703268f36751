"""Rows of jobs: the one truth about what was accepted and how it ended.

`JobStore` is what every store does, the local one on SQLite and the fleet's. A store compares and
sets; which state may follow which is `model`'s. All calls block and may be made from any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from infinitetalk.errors import IdempotencyMismatch, JobNotFound, QueueFull
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import Job, Status, Usage, job_from_json, job_to_json
from infinitetalk.jobs.tally import count_ended
from infinitetalk.progress import Progress


class JobStore(Protocol):
    """What the service and the engine ask of a store."""

    def add(self, job: Job, *, limit: int) -> Job:
        """Commit a new job; with a known idempotency key, the job that has it already.

        Raises:
            IdempotencyMismatch: the key was used for another request.
            QueueFull: `limit` jobs wait already.
        """

    def has_key(self, owner: str, idempotency_key: str) -> bool:
        """Whether a job of this owner that is not erased has the key."""

    def get(self, job_id: str) -> Job:
        """
        Raises:
            JobNotFound: there is none.
        """

    def replace(self, old: Job, new: Job) -> bool:
        """Put `new` in the place of `old`, unless its status or attempt changed meanwhile."""

    def report(self, job: Job, progress: Progress, usage: Usage) -> bool:
        """Keep the moment of a running attempt; False when the job is not this attempt's now."""

    def is_current(self, job: Job) -> bool:
        """Whether the job is still in this state of this attempt."""

    def find(self, *statuses: Status, owner: str | None = None) -> list[Job]:
        """Jobs in these states (all, if none is named), oldest first, that are not erased."""

    def recent(self, status: Status, limit: int) -> list[Job]:
        """The newest jobs in this state that are not erased, newest first."""

    def counts(self, *statuses: Status) -> Mapping[Status, int]:
        """How many jobs are in each of these states (all, if none is named); no erased ones."""

    def spent(self, owner: str, since: float) -> float:
        """US dollars that the owner's jobs since then have cost, erased ones too."""

    def forget(self, before: float) -> Sequence[str]:
        """Drop the rows of jobs erased before then; their ids."""


class SqliteJobStore:
    """The store of one host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job, *, limit: int) -> Job:
        with self._database.writing() as connection:
            known = connection.execute(
                "SELECT record FROM jobs WHERE owner = ? AND idempotency_key = ?",
                (job.owner, job.idempotency_key),
            ).fetchone()
            if known is not None:
                return same_request(job_from_json(known["record"]), job)
            count = "SELECT count(*) FROM jobs WHERE status = ?"
            if connection.execute(count, (Status.PENDING,)).fetchone()[0] >= limit:
                raise QueueFull(f"{limit} jobs are waiting already, try again later.")
            connection.execute(
                "INSERT INTO jobs (id, owner, idempotency_key, status, attempt, created_at, "
                "cost_usd, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.owner, job.idempotency_key, job.status, job.attempt),
                    *(job.created_at, job.usage.cost_usd, job_to_json(job)),
                ),
            )
        return job

    def has_key(self, owner: str, idempotency_key: str) -> bool:
        sql = "SELECT 1 FROM jobs WHERE owner = ? AND idempotency_key = ? AND erased_at IS NULL"
        return bool(self._database.read(sql, (owner, idempotency_key)))

    def get(self, job_id: str) -> Job:
        rows = self._database.read("SELECT record FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise JobNotFound("There is no such job.")
        return job_from_json(rows[0]["record"])

    def replace(self, old: Job, new: Job) -> bool:
        with self._database.writing() as connection:
            changed = connection.execute(
                "UPDATE jobs SET idempotency_key = ?, status = ?, attempt = ?, worker = ?, "
                "completed_at = ?, erased_at = ?, cost_usd = ?, record = ? "
                "WHERE id = ? AND status = ? AND attempt = ? AND erased_at IS ?",
                (
                    *(new.idempotency_key, new.status, new.attempt, new.worker),
                    *(new.completed_at, new.erased_at, new.usage.cost_usd, job_to_json(new)),
                    *(old.id, old.status, old.attempt, old.erased_at),
                ),
            )
            is_ours = changed.rowcount == 1
            if is_ours and new.status.is_terminal and not old.status.is_terminal:
                count_ended(connection, new)
            return is_ours

    def report(self, job: Job, progress: Progress, usage: Usage) -> bool:
        return self.replace(job, replace(job, progress=progress, usage=usage))

    def is_current(self, job: Job) -> bool:
        sql = "SELECT 1 FROM jobs WHERE id = ? AND status = ? AND attempt = ?"
        return bool(self._database.read(sql, (job.id, job.status, job.attempt)))

    def find(self, *statuses: Status, owner: str | None = None) -> list[Job]:
        wanted = statuses or tuple(Status)
        marks = ", ".join("?" * len(wanted))
        sql = (
            f"SELECT record FROM jobs WHERE status IN ({marks}) AND erased_at IS NULL "
            "AND (? IS NULL OR owner = ?) ORDER BY seq"
        )
        rows = self._database.read(sql, (*wanted, owner, owner))
        return [job_from_json(row["record"]) for row in rows]

    def recent(self, status: Status, limit: int) -> list[Job]:
        sql = (
            "SELECT record FROM jobs WHERE status = ? AND erased_at IS NULL "
            "ORDER BY seq DESC LIMIT ?"
        )
        rows = self._database.read(sql, (status, limit))
        return [job_from_json(row["record"]) for row in rows]

    def counts(self, *statuses: Status) -> Mapping[Status, int]:
        sql = "SELECT status, count(*) AS jobs FROM jobs WHERE erased_at IS NULL GROUP BY status"
        found = {row["status"]: row["jobs"] for row in self._database.read(sql)}
        return {status: found.get(status, 0) for status in statuses or Status}

    def spent(self, owner: str, since: float) -> float:
        sql = "SELECT total(cost_usd) AS usd FROM jobs WHERE owner = ? AND created_at >= ?"
        return float(self._database.read(sql, (owner, since))[0]["usd"])

    def forget(self, before: float) -> Sequence[str]:
        with self._database.writing() as connection:
            rows = connection.execute(
                "DELETE FROM jobs WHERE erased_at < ? RETURNING id", (before,)
            ).fetchall()
        return [row["id"] for row in rows]


def same_request(known: Job, asked: Job) -> Job:
    """The job that has the idempotency key already, if it is of the same request.

    Raises:
        IdempotencyMismatch: it is not.
    """
    if known.fingerprint != asked.fingerprint:
        raise IdempotencyMismatch("This Idempotency-Key was used for another request.")
    return known
