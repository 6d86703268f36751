"""The job layer as the HTTP face sees it, and that of one host, opened from its data folder.

<data>/jobs.db              rows: jobs, deliveries, tallies, engines
<data>/jobs.db.lock         held by every process that has it open
<data>/jobs/<id>/           files of a job
<data>/staging/             requests that are being taken in
<data>/supervisor.lock      held by the one process that runs engines here
<data>/engine-<slot>.lock   held by that slot's engine
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from infinitetalk.config import Settings
from infinitetalk.jobs.blobs import BlobStore, DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.engines import EngineBoard, SqliteEngineBoard, require_engine
from infinitetalk.jobs.model import Clock
from infinitetalk.jobs.outbox import Outbox, SqliteOutbox
from infinitetalk.jobs.queue import JobQueue, LocalQueue
from infinitetalk.jobs.store import JobStore, SqliteJobStore
from infinitetalk.jobs.tally import Key, tallies


class Host(Protocol):
    """What the HTTP face asks of the jobs of one host, or of a fleet."""

    @property
    def store(self) -> JobStore: ...
    @property
    def queue(self) -> JobQueue: ...
    @property
    def blobs(self) -> BlobStore: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def engines(self) -> EngineBoard: ...

    @property
    def look_s(self) -> float:
        """Seconds between two looks at a job that somebody waits for."""

    def require_engine(self) -> None:
        """Refuse work that nobody could do.

        Raises:
            Unavailable: no engine can start, or would find its weights.
        """

    def totals(self) -> Mapping[Key, float]:
        """Over all jobs that ever ended; they only grow."""

    def close(self) -> None: ...


def slot_lock(data: Path, slot: str) -> Path:
    """The lock that the engine of a slot holds."""
    return data / f"engine-{slot}.lock"


def supervisor_lock(data: Path) -> Path:
    """The lock of the one process that runs engines on this data folder."""
    return data / "supervisor.lock"


@dataclass(frozen=True, slots=True)
class LocalHost:
    """Everything that server and engine of one host share."""

    database: Database
    store: SqliteJobStore
    queue: LocalQueue
    blobs: DirectoryBlobStore
    outbox: SqliteOutbox
    engines: SqliteEngineBoard
    look_s: float = 0.25

    @classmethod
    def open(cls, settings: Settings, clock: Clock = time.time) -> Self:
        """
        Raises:
            StoreBusy, StoreCorrupt, StorageFull: the database cannot be opened.
        """
        data = settings.data_folder
        database = Database(data / "jobs.db")
        store = SqliteJobStore(database)
        return cls(
            database,
            store,
            LocalQueue(database, store, clock),
            DirectoryBlobStore(data),
            SqliteOutbox(database),
            SqliteEngineBoard(database),
        )

    def require_engine(self) -> None:
        require_engine(self.engines)

    def totals(self) -> Mapping[Key, float]:
        return tallies(self.database)

    def close(self) -> None:
        self.database.close()
