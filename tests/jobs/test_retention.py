"""What is deleted when, and what never."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from infinitetalk.errors import JobNotFound
from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.model import Job, Status, cancel, start
from infinitetalk.jobs.outbox import Kind, SqliteOutbox
from infinitetalk.jobs.retention import LEFTOVER_S, REMEMBER_S, Retention, expire, sweep
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.contract import files, staged
from tests.jobs.records import DAY_S, ENOUGH, NOW, a_job

KEEP_S = 3 * DAY_S
MEGABYTE = 1_000_000
NO_LIMIT = 1e15


@dataclass
class Shelf:
    """Jobs with files, and the sweeper."""

    store: SqliteJobStore
    blobs: DirectoryBlobStore
    outbox: SqliteOutbox

    def job(self, status: Status, *, at: float = NOW, size: int = 0) -> Job:
        """A job that came, began or ended at this time."""
        job = self.store.add(a_job(created_at=at, idempotency_key=None), limit=ENOUGH)
        with self.blobs.staging() as folder:
            self.blobs.adopt(staged(folder), job.id)
        if size:
            self.blobs.folder(job.id).result.write_bytes(os.urandom(size))
        if status is not Status.PENDING:
            new = start(job, "0", at) if status is Status.IN_PROGRESS else cancel(job, at)
            assert self.store.replace(job, new)
            job = new
        self.outbox.promise(job.id, Kind.WEBHOOK, "https://example.com")
        return job

    def sweep(self, now: float = NOW, max_bytes: float = NO_LIMIT) -> int:
        return sweep(self.store, self.blobs, self.outbox, Retention(KEEP_S, max_bytes), now)

    def has(self, job: Job) -> bool:
        """Whether a job is there; if not, its row, files and promises agree that it is gone."""
        is_there = self.store.get(job.id).erased_at is None
        assert bool(files(self.blobs.folder(job.id))) == is_there
        assert bool(self.outbox.states(job.id)) == is_there
        return is_there


@pytest.fixture
def shelf(store: SqliteJobStore, blobs: DirectoryBlobStore, outbox: SqliteOutbox) -> Shelf:
    return Shelf(store, blobs, outbox)


def test_an_ended_job_goes_when_its_time_is_over(shelf: Shelf) -> None:
    job = shelf.job(Status.CANCELED)
    assert shelf.sweep(NOW + KEEP_S) == 0
    assert shelf.has(job)
    assert shelf.sweep(NOW + KEEP_S + 1) == 1
    assert not shelf.has(job)
    assert shelf.sweep(NOW + KEEP_S + 1) == 0


@pytest.mark.parametrize("status", [Status.PENDING, Status.IN_PROGRESS])
def test_a_job_that_has_not_ended_never_goes(shelf: Shelf, status: Status) -> None:
    job = shelf.job(status)
    assert shelf.sweep(NOW + 1000 * DAY_S, max_bytes=0) == 0
    assert shelf.has(job)


def test_a_tombstone_says_nothing_of_the_request_and_is_forgotten_in_its_turn(
    shelf: Shelf,
) -> None:
    job = shelf.job(Status.CANCELED)
    gone_at = NOW + KEEP_S + 1
    shelf.sweep(gone_at)
    tombstone = shelf.store.get(job.id)
    assert (tombstone.spec.prompt, tombstone.spec.negative_prompt) == ("", "")
    assert (tombstone.fingerprint, tombstone.idempotency_key) == ("", None)
    assert (tombstone.status, tombstone.erased_at) == (Status.CANCELED, gone_at)
    shelf.sweep(gone_at + REMEMBER_S)
    assert shelf.store.get(job.id) == tombstone
    shelf.sweep(gone_at + REMEMBER_S + 1)
    with pytest.raises(JobNotFound):
        shelf.store.get(job.id)


def test_above_the_disks_limit_those_that_ended_first_go(shelf: Shelf) -> None:
    """Not those that came first, and no more than needed."""
    late = shelf.job(Status.CANCELED, at=NOW - 1, size=MEGABYTE)
    first = shelf.job(Status.CANCELED, at=NOW - 9, size=MEGABYTE)
    running = shelf.job(Status.IN_PROGRESS, at=NOW - 99, size=MEGABYTE)
    second = shelf.job(Status.CANCELED, at=NOW - 5, size=MEGABYTE)
    assert shelf.sweep(max_bytes=2.5 * MEGABYTE) == 2
    assert [shelf.has(job) for job in (first, second, late, running)] == [
        *(False, False, True, True)
    ]


def test_below_the_disks_limit_nothing_goes(shelf: Shelf) -> None:
    jobs = [shelf.job(Status.CANCELED, size=MEGABYTE) for _ in range(2)]
    assert shelf.sweep(max_bytes=2.5 * MEGABYTE) == 0
    assert all(shelf.has(job) for job in jobs)


def test_what_goes_by_age_makes_room_for_what_is_young(shelf: Shelf) -> None:
    old = shelf.job(Status.CANCELED, at=NOW - KEEP_S - 1, size=MEGABYTE)
    young = shelf.job(Status.CANCELED, size=MEGABYTE)
    assert shelf.sweep(max_bytes=1.5 * MEGABYTE) == 1
    assert [shelf.has(job) for job in (old, young)] == [False, True]


@pytest.mark.parametrize("days", [1, 3650])
def test_a_job_from_the_future_is_kept_for_its_time_and_no_longer(
    shelf: Shelf, days: float
) -> None:
    """The clock was ahead when it ended, and has been turned back."""
    job = shelf.job(Status.CANCELED, at=NOW + days * DAY_S)
    assert shelf.sweep(NOW) == 0
    assert shelf.sweep(NOW + KEEP_S) == 0
    assert shelf.has(job)
    assert shelf.sweep(NOW + KEEP_S + 1) == 1
    assert not shelf.has(job)


def test_a_clock_turned_back_deletes_nothing_early(shelf: Shelf) -> None:
    job = shelf.job(Status.CANCELED)
    assert shelf.sweep(NOW - DAY_S) == 0
    assert shelf.has(job)


def test_a_job_that_changed_meanwhile_is_not_erased(shelf: Shelf) -> None:
    waiting = shelf.job(Status.PENDING)
    shelf.store.replace(waiting, start(waiting, "0", NOW))
    assert not expire(waiting, shelf.store, shelf.blobs, shelf.outbox, NOW)
    assert shelf.has(waiting)


# what killed processes leave behind


def set_age(path: Path, age_s: float) -> None:
    os.utime(path, (NOW - age_s, NOW - age_s))


@pytest.mark.parametrize(("age_s", "stays"), [(LEFTOVER_S - 1, True), (LEFTOVER_S + 1, False)])
def test_files_of_no_job_go_after_a_day(shelf: Shelf, age_s: float, stays: bool) -> None:
    """A request whose row is yet to come is younger."""
    with shelf.blobs.staging() as folder:
        shelf.blobs.adopt(staged(folder), "a")
    set_age(shelf.blobs.folder("a").root, age_s)
    shelf.sweep()
    assert list(shelf.blobs.ids()) == (["a"] if stays else [])


@pytest.mark.parametrize(("age_s", "stays"), [(LEFTOVER_S - 1, True), (LEFTOVER_S + 1, False)])
def test_what_is_owed_for_no_job_goes_with_its_files(
    shelf: Shelf, age_s: float, stays: bool
) -> None:
    with shelf.blobs.staging() as folder:
        shelf.blobs.adopt(staged(folder), "a")
    shelf.outbox.promise("a", Kind.WEBHOOK, "https://example.com")
    set_age(shelf.blobs.folder("a").root, age_s)
    shelf.sweep()
    assert bool(shelf.outbox.states("a")) == stays


def test_old_files_of_a_job_that_is_known_stay(shelf: Shelf) -> None:
    """Also those of a job that was added while the sweep was under way."""
    job = shelf.job(Status.PENDING)
    set_age(shelf.blobs.folder(job.id).root, 1000 * DAY_S)
    shelf.sweep()
    assert shelf.has(job)


def test_files_that_an_erasure_left_go_at_once(shelf: Shelf) -> None:
    """It was killed in between, or the engine wrote once more."""
    job = shelf.job(Status.CANCELED)
    expire(job, shelf.store, shelf.blobs, shelf.outbox, NOW)
    shelf.blobs.folder(job.id).root.mkdir()
    shelf.sweep()
    assert list(shelf.blobs.ids()) == []


@pytest.mark.parametrize(("age_s", "stays"), [(LEFTOVER_S - 1, True), (LEFTOVER_S + 1, False)])
def test_requests_of_killed_processes_go_after_a_day(
    shelf: Shelf, tmp_path: Path, age_s: float, stays: bool
) -> None:
    folder = tmp_path / "staging" / "a request"
    (folder / "upload").mkdir(parents=True)
    set_age(folder, age_s)
    shelf.sweep()
    assert folder.exists() == stays
