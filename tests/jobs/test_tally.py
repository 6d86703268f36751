"""Totals that outlive the jobs they count."""

import pytest

from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import Job, Usage, cancel, complete, fail, hand_back, lose, start
from infinitetalk.jobs.retention import erased
from infinitetalk.jobs.store import SqliteJobStore
from infinitetalk.jobs.tally import tallies
from infinitetalk.progress import Stage
from tests.jobs.records import ENOUGH, NOW, PROBLEM, STEP, VIDEO, a_job

USAGE = Usage(10.0, 0.5, {Stage.DENOISING: 8.0, Stage.WRITING: 2.0})


def running(store: SqliteJobStore) -> Job:
    job = store.add(a_job(), limit=ENOUGH)
    leased = start(job, "0", NOW)
    assert store.replace(job, leased)
    return leased


def test_totals_count_every_end_once(database: Database, store: SqliteJobStore) -> None:
    for _ in range(2):
        job = running(store)
        done = complete(job, VIDEO, USAGE, NOW)
        assert store.replace(job, done)
        assert store.replace(done, erased(done, NOW))
    broken, unwanted = running(store), running(store)
    assert store.replace(broken, fail(broken, PROBLEM, NOW))
    assert store.replace(unwanted, cancel(unwanted, NOW))
    assert tallies(database) == {
        ("jobs", "completed"): 2,
        ("jobs", "failed/internal"): 1,
        ("jobs", "canceled"): 1,
        ("gpu_seconds", ""): 20.0,
        ("cost_usd", ""): 1.0,
        ("stage_seconds", "denoising"): 16.0,
        ("stage_seconds", "writing"): 4.0,
        ("windows", ""): 2 * VIDEO.windows,
        ("video_seconds", ""): 2.0,
    }


def test_a_job_that_goes_on_counts_for_nothing(database: Database, store: SqliteJobStore) -> None:
    first, second = running(store), running(store)
    assert store.report(first, STEP, USAGE)
    assert store.replace(first, hand_back(first))
    assert store.replace(second, lose(second, PROBLEM, NOW))
    assert tallies(database) == {}


def test_an_end_that_was_refused_is_not_counted(database: Database, store: SqliteJobStore) -> None:
    job = running(store)
    assert store.replace(job, cancel(job, NOW))
    assert not store.replace(job, complete(job, VIDEO, USAGE, NOW))
    assert ("jobs", "completed") not in tallies(database)


def test_totals_stay_when_the_jobs_are_forgotten(database: Database, store: SqliteJobStore) -> None:
    job = running(store)
    done = complete(job, VIDEO, USAGE, NOW)
    assert store.replace(job, done)
    before = tallies(database)
    assert store.replace(done, erased(done, NOW))
    store.forget(NOW + 1)
    assert tallies(database) == before
    assert before["gpu_seconds", ""] == pytest.approx(10.0)
