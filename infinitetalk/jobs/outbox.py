"""What is owed to others when a job ends: a webhook, and the video to a presigned URL.

A row is written with the job itself, so nothing is forgotten by a crash; it is due once the job
has ended. URLs may carry secrets: they are dropped as soon as they are not needed any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from infinitetalk.jobs.database import Database

MAX_ATTEMPTS = 8
BACKOFF_S = 5.0  # doubled after every attempt: the last one is about ten minutes after the first
MAX_BACKOFF_S = BACKOFF_S * 2 ** (MAX_ATTEMPTS - 2)


class Kind(StrEnum):
    """What is delivered."""

    WEBHOOK = "webhook"
    UPLOAD = "upload"


class State(StrEnum):
    """How far a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing owed."""

    id: int
    job_id: str
    kind: Kind
    url: str
    attempts: int


class Outbox(Protocol):
    """What is owed, wherever it is written down."""

    def promise(self, job_id: str, kind: Kind, url: str) -> None:
        """Owe a delivery for when the job ends."""

    def due(self, now: float) -> list[Delivery]:
        """What is owed for ended jobs and may be tried now, uploads before webhooks.

        A webhook waits for the upload of its job, so that whoever it calls finds the video there.
        """

    def delivered(self, delivery: Delivery) -> None:
        """It arrived."""

    def failed(self, delivery: Delivery, now: float, *, is_final: bool = False) -> None:
        """It did not arrive: try again later, or give up."""

    def states(self, job_id: str) -> dict[Kind, State]:
        """How far the deliveries of a job are."""

    def orphans(self) -> set[str]:
        """Jobs that something is owed for and that were never, or are not yet, in the store."""

    def forget(self, job_ids: Sequence[str]) -> None:
        """Drop what is owed for jobs that were erased."""


class SqliteOutbox:
    """The deliveries of one host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def promise(self, job_id: str, kind: Kind, url: str) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO deliveries (job_id, kind, url, state, attempts, due_at) "
                "VALUES (?, ?, ?, ?, 0, 0)",
                (job_id, kind, url, State.WAITING),
            )

    def due(self, now: float) -> list[Delivery]:
        # What seems due later than any pause takes was put off before the clock was turned back.
        rows = self._database.read(
            "SELECT d.* FROM deliveries AS d JOIN jobs ON jobs.id = d.job_id "
            "WHERE d.state = 'waiting' AND jobs.completed_at IS NOT NULL "
            "AND (d.due_at <= ? OR d.due_at > ?) "
            "AND NOT (d.kind = 'webhook' AND EXISTS (SELECT 1 FROM deliveries AS u "
            "WHERE u.job_id = d.job_id AND u.kind = 'upload' AND u.state = 'waiting')) "
            "ORDER BY d.kind, d.due_at LIMIT 100",
            (now, now + MAX_BACKOFF_S),
        )
        return [
            Delivery(row["id"], row["job_id"], Kind(row["kind"]), row["url"], row["attempts"])
            for row in rows
        ]

    def delivered(self, delivery: Delivery) -> None:
        self._end(delivery, State.DELIVERED)

    def failed(self, delivery: Delivery, now: float, *, is_final: bool = False) -> None:
        attempts = delivery.attempts + 1
        if is_final or attempts >= MAX_ATTEMPTS:
            self._end(delivery, State.FAILED)
            return
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE deliveries SET attempts = ?, due_at = ? WHERE id = ?",
                (attempts, now + BACKOFF_S * 2**delivery.attempts, delivery.id),
            )

    def states(self, job_id: str) -> dict[Kind, State]:
        sql = "SELECT kind, state FROM deliveries WHERE job_id = ?"
        rows = self._database.read(sql, (job_id,))
        return {Kind(row["kind"]): State(row["state"]) for row in rows}

    def orphans(self) -> set[str]:
        sql = "SELECT DISTINCT job_id FROM deliveries WHERE job_id NOT IN (SELECT id FROM jobs)"
        return {row["job_id"] for row in self._database.read(sql)}

    def forget(self, job_ids: Sequence[str]) -> None:
        with self._database.writing() as connection:
            connection.executemany(
                "DELETE FROM deliveries WHERE job_id = ?", [(job_id,) for job_id in job_ids]
            )

    def _end(self, delivery: Delivery, state: State) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, attempts = ?, url = NULL WHERE id = ?",
                (state, delivery.attempts + 1, delivery.id),
            )
