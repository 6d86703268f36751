"""The job store of one host: the contract, and what SQLite adds to it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from infinitetalk.errors import StoreCorrupt
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.retention import erased
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.contract import JobStoreContract, ended
from tests.jobs.records import ENOUGH, NOW, SPEC, a_job


class TestSqliteJobStore(JobStoreContract):
    """Its `store` is the one of conftest.py."""


def test_processes_with_one_key_make_one_job(tmp_path: Path) -> None:
    """Each database of its own, as each server process has."""
    databases = [Database(tmp_path / "jobs.db") for _ in range(5)]
    barrier = Barrier(len(databases))

    def call(database: Database) -> str:
        barrier.wait()
        job = a_job(idempotency_key="k", fingerprint="f")
        return SqliteJobStore(database).add(job, limit=ENOUGH).id

    with ThreadPoolExecutor(len(databases)) as callers:
        answers = set(callers.map(call, databases))
    assert answers == {job.id for job in SqliteJobStore(databases[0]).find()}
    assert len(answers) == 1
    for database in databases:
        database.close()


def test_jobs_are_there_after_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.db")
    jobs = [SqliteJobStore(database).add(a_job(), limit=ENOUGH) for _ in range(3)]
    database.close()
    again = Database(tmp_path / "jobs.db")
    assert SqliteJobStore(again).find() == jobs
    again.close()


def test_nothing_of_an_erased_request_stays_on_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.db")
    store = SqliteJobStore(database)
    spec = replace(SPEC, prompt="a wish nobody may know", negative_prompt="a fear")
    job = ended(store, spec=spec, idempotency_key="a telling key", fingerprint="telling too")
    assert store.replace(job, erased(job, NOW))
    database.close()
    content = (tmp_path / "jobs.db").read_bytes()
    assert job.id.encode() in content
    for secret in (spec.prompt, spec.negative_prompt, "a telling key", "telling too"):
        assert secret.encode() not in content


@pytest.mark.parametrize("record", ["{", "{}", "[]", '{"id": 1, "usage": {"stages": {}}}'])
def test_a_record_that_cannot_be_read_is_store_corrupt(
    database: Database, store: SqliteJobStore, record: str
) -> None:
    job = store.add(a_job(), limit=ENOUGH)
    with database.writing() as connection:
        connection.execute("UPDATE jobs SET record = ?", (record,))
    with pytest.raises(StoreCorrupt):
        store.get(job.id)
