"""What reliability rows ask of jobs beside the tests of each module: cancels, repeats, damage."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.errors import StoreCorrupt
from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.execute import execute
from infinitetalk.jobs.model import Job, Status
from infinitetalk.jobs.store import SqliteJobStore
from infinitetalk.progress import Progress, Stage
from tests.jobs.bench import Bench
from tests.jobs.records import ENOUGH, FakeClock, a_job
from tests.jobs.scripted import CONTENT, ScriptedRenderer


@pytest.fixture
def bench(store: SqliteJobStore, blobs: DirectoryBlobStore) -> Bench:
    return Bench(store, blobs)


def at(stage: Stage, window: int = 1) -> Progress:
    return Progress(stage, window, 3, 0, 2)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_cancel_at_any_stage_ends_the_attempt_there_without_a_video(
    bench: Bench, stage: Stage
) -> None:
    renderer = ScriptedRenderer(at(stage), bench.cancel, at(stage, 2))
    job = bench.run(renderer)
    assert (job, job.status, job.result) == (bench.row, Status.CANCELED, None)
    assert renderer.played == 2
    assert not bench.blobs.folder(job.id).result.exists()


def test_a_cancel_before_the_first_word_of_the_engine_counts(bench: Bench) -> None:
    assert bench.attempt(bench.cancel, at(Stage.PREPARING)).status is Status.CANCELED


def test_a_cancel_as_the_video_is_ready_wins_over_it(bench: Bench) -> None:
    job = bench.run(ScriptedRenderer(at(Stage.WRITING), at_end=bench.cancel))
    assert (job, job.status, job.result) == (bench.row, Status.CANCELED, None)


def test_a_job_that_is_run_again_after_its_end_keeps_it(bench: Bench) -> None:
    """The platform may hand out the same input twice."""
    leased = bench.lease()
    first = again(bench, leased)
    assert first.status is Status.COMPLETED
    result = bench.blobs.folder(first.id).result
    inode = result.stat().st_ino
    assert again(bench, leased) == first == bench.row
    assert again(bench, replace(leased, attempt=2)) == first == bench.row
    assert (result.stat().st_ino, result.read_bytes()) == (inode, CONTENT)


def again(bench: Bench, leased: Job) -> Job:
    return execute(
        leased,
        bench.store,
        bench.blobs,
        ScriptedRenderer(at(Stage.DENOISING)),
        price_per_second=0.0,
        stopping=lambda: False,
        clock=FakeClock(),
        monotonic=bench.watch,
    )


@pytest.mark.parametrize("place", [0, 20, 100], ids=["magic", "header", "schema"])
def test_a_first_page_with_turned_bits_is_moved_aside_by_its_time_and_told_loudly(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jobs.db"
    database = Database(path)
    SqliteJobStore(database).add(a_job(), limit=ENOUGH)
    database.close()
    content = bytearray(path.read_bytes())
    content[place : place + 16] = bytes(byte ^ 0xFF for byte in content[place : place + 16])
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        Database(path)
    moved = [part.name for part in tmp_path.iterdir() if part.name != "jobs.db.lock"]
    assert all(re.match(r"jobs\.db\.damaged-\d{8}T\d{6}\.\d+Z", name) for name in moved) and moved
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    with pytest.raises(StoreCorrupt):
        Database(path)
    assert not path.exists()
