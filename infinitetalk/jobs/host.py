"""The job layer of one host, opened from its data folder.

<data>/jobs.db              rows: jobs, deliveries, tallies, engines
<data>/jobs.db.lock         held by every process that has it open
<data>/jobs/<id>/           files of a job
<data>/staging/             requests that are being taken in
<data>/supervisor.lock      held by the one process that runs engines here
<data>/engine-<slot>.lock   held by that slot's engine
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infinitetalk.config import Settings
from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.engines import EngineBoard
from infinitetalk.jobs.model import Clock
from infinitetalk.jobs.outbox import Outbox
from infinitetalk.jobs.queue import LocalQueue
from infinitetalk.jobs.store import SqliteJobStore


def slot_lock(data: Path, slot: str) -> Path:
    """The lock that the engine of a slot holds."""
    return data / f"engine-{slot}.lock"


def supervisor_lock(data: Path) -> Path:
    """The lock of the one process that runs engines on this data folder."""
    return data / "supervisor.lock"


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that server and engine share."""

    database: Database
    store: SqliteJobStore
    queue: LocalQueue
    blobs: DirectoryBlobStore
    outbox: Outbox
    engines: EngineBoard

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
            Outbox(database),
            EngineBoard(database),
        )

    def close(self) -> None:
        self.database.close()
