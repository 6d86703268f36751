"""The job layer of one host in a temporary folder; for fleets, a control plane per module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.outbox import SqliteOutbox
from infinitetalk.jobs.queue import LocalQueue
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.dicts import Dicts
from tests.jobs.records import FakeClock
from tests.jobs.volumes import Volumes
from tests.modal_control_plane.plane import ControlPlane


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "jobs.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> SqliteJobStore:
    return SqliteJobStore(database)


@pytest.fixture
def queue(database: Database, store: SqliteJobStore, clock: FakeClock) -> LocalQueue:
    return LocalQueue(database, store, clock)


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path)


@pytest.fixture
def outbox(database: Database) -> SqliteOutbox:
    return SqliteOutbox(database)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture(scope="module")
def dicts(plane: ControlPlane) -> Dicts:
    return Dicts(plane)


@pytest.fixture(scope="module")
def volumes(plane: ControlPlane) -> Volumes:
    return Volumes(plane)
