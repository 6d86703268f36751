"""One job on a bench: attempts at it with scripted renderers, and what happens meanwhile."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.execute import execute
from infinitetalk.jobs.model import Job, cancel, hand_back, start
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.contract import staged
from tests.jobs.records import ENOUGH, NOW, FakeClock, a_job
from tests.jobs.scripted import Act, ScriptedRenderer

PRICE = 0.5  # US dollars a second


class Stopwatch:
    """Monotonic seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> Callable[[], None]:
        def act() -> None:
            self.now += seconds

        return act


class Bench:
    """A store, files and a clock around attempts at one job."""

    def __init__(self, store: SqliteJobStore, blobs: DirectoryBlobStore) -> None:
        self.store = store
        self.blobs = blobs
        self.watch = Stopwatch()
        self.is_stopping = False
        self.job = store.add(a_job(request_id="r1"), limit=ENOUGH)
        with blobs.staging() as folder:
            blobs.adopt(staged(folder), self.job.id)

    @property
    def row(self) -> Job:
        return self.store.get(self.job.id)

    def lease(self) -> Job:
        job = start(self.row, "0", NOW)
        assert self.store.replace(self.row, job)
        return job

    def attempt(self, *acts: Act) -> Job:
        return self.run(ScriptedRenderer(*acts))

    def run(self, renderer: ScriptedRenderer, *, store: SqliteJobStore | None = None) -> Job:
        return execute(
            self.lease(),
            store or self.store,
            self.blobs,
            renderer,
            price_per_second=PRICE,
            stopping=lambda: self.is_stopping,
            clock=FakeClock(NOW + 60),
            monotonic=self.watch,
        )

    def cancel(self) -> None:
        assert self.store.replace(self.row, cancel(self.row, NOW))

    def lease_again(self) -> None:
        """As if this engine had been taken for dead."""
        assert self.store.replace(self.row, hand_back(self.row))
        self.lease()

    def stop(self) -> None:
        self.is_stopping = True


class Writer:
    """Another process that writes, as far as SQLite can tell."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()
