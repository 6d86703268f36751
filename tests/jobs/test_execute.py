"""One attempt at a job: every way it can end, and what is then in its row."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk import errors
from infinitetalk.errors import InfiniteTalkError
from infinitetalk.jobs import retention
from infinitetalk.jobs.blobs import DirectoryBlobStore
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.execute import EngineFault, labels_of
from infinitetalk.jobs.model import MAX_LOSSES, Job, Status, Usage
from infinitetalk.jobs.outbox import SqliteOutbox
from infinitetalk.jobs.store import SqliteJobStore
from infinitetalk.progress import Progress, Stage
from infinitetalk.serving.status import describe
from tests.jobs.bench import PRICE, Bench, Writer
from tests.jobs.records import NOW, a_job
from tests.jobs.scripted import CONTENT, Act, ScriptedRenderer

CUDA = RuntimeError("CUDA error: an illegal memory access was encountered")


class AcceleratorError(RuntimeError):
    """Named as torch names what comes from its device."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "jobs.db", busy_s=0.02)
    yield database
    database.close()


@pytest.fixture
def bench(store: SqliteJobStore, blobs: DirectoryBlobStore) -> Bench:
    return Bench(store, blobs)


def at(stage: Stage, window: int = 1, step: int = 0) -> Progress:
    return Progress(stage, window, 3, step, 2)


def test_the_file_learns_that_consent_was_stated_and_not_whose() -> None:
    assert labels_of(a_job(id="7", consent="Ada Lovelace")) == {"job": "7", "consent": "stated"}
    assert labels_of(a_job(id="7")) == {"job": "7"}


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The lines that tell of finished jobs."""
    return [json.loads(r.message) for r in caplog.records if "job.finished" in r.message]


# ends


def test_a_rendered_job_is_completed_with_what_is_in_its_file(bench: Bench) -> None:
    renderer = ScriptedRenderer(at(Stage.ENCODING), at(Stage.WRITING, 3))
    job = bench.run(renderer)
    assert job == bench.row
    assert (job.status, job.completed_at, job.losses) == (Status.COMPLETED, NOW + 60, 0)
    assert job.result is not None
    assert job.result.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert (job.result.size_bytes, job.result.frames, job.result.windows) == (len(CONTENT), 25, 3)
    assert job.progress == at(Stage.WRITING, 3)
    assert renderer.labels == {"job": job.id}


def test_a_user_cancels_and_the_job_ends_within_the_step(bench: Bench) -> None:
    renderer = ScriptedRenderer(at(Stage.DENOISING), bench.cancel, at(Stage.DENOISING, 1, 1))
    job = bench.run(renderer)
    assert job == bench.row
    assert (job.status, job.result, job.losses) == (Status.CANCELED, None, 0)
    assert renderer.played == 2


def test_a_stop_hands_the_job_back_with_what_is_known_of_it(bench: Bench) -> None:
    renderer = ScriptedRenderer(
        at(Stage.DENOISING), bench.watch.spend(3), bench.stop, at(Stage.DENOISING, 1, 1)
    )
    job = bench.run(renderer)
    assert job == bench.row
    assert (job.status, job.losses, job.worker) == (Status.PENDING, 0, None)
    assert (job.progress, job.usage.gpu_seconds) == (at(Stage.DENOISING), 3.0)
    assert renderer.played == 3


def test_a_cancel_during_a_stop_wins(bench: Bench) -> None:
    def both() -> None:
        bench.stop()
        bench.cancel()

    assert bench.attempt(both).status is Status.CANCELED
    assert bench.row.status is Status.CANCELED


PASSING = [
    errors.OutOfMemory("The device ran out of memory."),
    errors.StorageFull("The disk is full."),
    errors.EncodingFailed("ffmpeg did not finish."),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.code)
def test_a_passing_fault_gives_the_job_back_until_it_has_passed_too_often(
    bench: Bench, error: InfiniteTalkError
) -> None:
    for losses in range(1, MAX_LOSSES):
        job = bench.attempt(at(Stage.DENOISING), error)
        assert (job.status, job.losses, job.error) == (Status.PENDING, losses, None)
    job = bench.attempt(error)
    assert job == bench.row
    assert (job.status, job.attempt) == (Status.FAILED, MAX_LOSSES)
    assert job.error is not None
    assert (job.error.code, job.error.message) == (error.code, error.message)


FINAL = [
    errors.InvalidField("These weights are for one speaker.", field="audio_2"),
    errors.GenerationDiverged("That is no picture."),
    errors.AudioInvalid("That is no sound."),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda error: error.code)
def test_what_can_never_work_is_not_tried_again(bench: Bench, error: InfiniteTalkError) -> None:
    job = bench.attempt(error)
    assert job == bench.row
    assert (job.status, job.attempt, job.losses) == (Status.FAILED, 1, 0)
    assert job.error is not None
    assert (job.error.code, job.error.field) == (error.code, error.field)


def test_a_job_of_another_preset_is_failed_and_never_rendered(bench: Bench) -> None:
    """It waited while the deployment was changed: its sizes and steps are not those of today."""
    renderer = ScriptedRenderer(at(Stage.ENCODING))
    renderer.preset = "fast"
    job = bench.run(renderer)
    assert job == bench.row
    assert (job.status, job.attempt, job.losses) == (Status.FAILED, 1, 0)
    assert job.error is not None
    assert (job.error.code, job.error.field) == ("invalid_field", "preset")
    assert (job.error.status, job.error.retryable) == (422, False)
    for said in ("for the preset tiny", "now runs fast", "submit it again"):
        assert said in job.error.message
    assert renderer.played == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CUDA, "worker_lost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "worker_lost"),
        (AcceleratorError("an illegal memory access was encountered"), "worker_lost"),
        (ZeroDivisionError("in a corner of ours"), "internal"),
        (FileNotFoundError("/data/jobs/secret/input/scene.png"), "internal"),
    ],
    ids=["CUDA", "cuDNN", "AcceleratorError", "bug", "files gone"],
)
def test_after_any_other_error_the_engine_ends_and_the_attempt_is_lost(
    bench: Bench, error: Exception, code: str
) -> None:
    for losses in range(1, MAX_LOSSES + 1):
        with pytest.raises(EngineFault):
            bench.attempt(at(Stage.DENOISING), error)
        assert bench.row.losses == losses
    job = bench.row
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == code
    assert str(error) not in job.error.message


def test_a_fault_after_a_good_attempt_leaves_the_loss_count_alone(bench: Bench) -> None:
    with pytest.raises(EngineFault):
        bench.attempt(CUDA)
    job = bench.attempt(at(Stage.DENOISING))
    assert (job.status, job.losses, job.attempt) == (Status.COMPLETED, 1, 2)


# the job is taken away meanwhile


LATE = [
    errors.OutOfMemory("The device ran out of memory."),
    errors.InvalidField("No.", field="image"),
    FileNotFoundError("input/scene.png"),
]


@pytest.mark.parametrize("error", LATE, ids=lambda error: type(error).__name__)
def test_nothing_that_goes_wrong_after_a_cancel_matters(bench: Bench, error: Exception) -> None:
    job = bench.attempt(cancel_then(bench, error))
    assert job == bench.row
    assert (job.status, job.error, job.losses) == (Status.CANCELED, None, 0)


def cancel_then(bench: Bench, error: Exception) -> Callable[[], None]:
    def act() -> None:
        bench.cancel()
        raise error

    return act


def test_a_device_fault_ends_the_engine_whatever_became_of_the_job(bench: Bench) -> None:
    with pytest.raises(EngineFault):
        bench.attempt(cancel_then(bench, CUDA))
    assert bench.row.status is Status.CANCELED


def test_a_job_that_is_erased_under_the_engine_stays_erased(
    bench: Bench, outbox: SqliteOutbox
) -> None:
    def erase() -> None:
        bench.cancel()
        retention.expire(bench.row, bench.store, bench.blobs, outbox, NOW)
        (bench.blobs.folder(bench.job.id).root / "input" / "scene.png").read_bytes()

    job = bench.attempt(at(Stage.DENOISING), erase)
    assert job == bench.row
    assert job.erased_at == NOW
    assert not list(bench.blobs.ids())


def test_a_result_that_comes_too_late_changes_nothing(bench: Bench) -> None:
    job = bench.run(ScriptedRenderer(at_end=bench.lease_again))
    assert job == bench.row
    assert (job.status, job.attempt, job.result) == (Status.IN_PROGRESS, 2, None)


def test_an_attempt_that_is_over_ends_at_its_next_step(bench: Bench) -> None:
    renderer = ScriptedRenderer(at(Stage.DENOISING), bench.lease_again, at(Stage.DECODING))
    job = bench.run(renderer)
    assert (job.status, job.attempt, job.losses) == (Status.IN_PROGRESS, 2, 0)
    assert renderer.played == 2


# the store is busy or full meanwhile


@pytest.fixture
def writer(tmp_path: Path, bench: Bench) -> Iterator[Writer]:
    with closing(Writer(tmp_path / "jobs.db")) as writer:
        yield writer


def test_a_busy_store_costs_a_report_and_nothing_else(bench: Bench, writer: Writer) -> None:
    acts = (writer.begin, at(Stage.ENCODING), at(Stage.DENOISING), writer.end)
    job = bench.attempt(*acts)
    assert (job.status, job.losses) == (Status.COMPLETED, 0)
    assert job.progress == at(Stage.DENOISING)


class StoreThatKeepsNoReports(SqliteJobStore):
    """What its database says on a full disk."""

    def report(self, job: Job, progress: Progress, usage: Usage) -> bool:
        raise errors.StorageFull("The disk has no room for the job store.")


def test_a_full_disk_costs_a_report_and_nothing_else(bench: Bench, database: Database) -> None:
    renderer = ScriptedRenderer(at(Stage.ENCODING), at(Stage.DENOISING))
    job = bench.run(renderer, store=StoreThatKeepsNoReports(database))
    assert (job.status, job.progress) == (Status.COMPLETED, at(Stage.DENOISING))


class StoreFreedAtThirdTry(SqliteJobStore):
    """Ends a writer's transaction when it is asked to write for the third time since."""

    def __init__(self, database: Database, writer: Writer) -> None:
        super().__init__(database)
        self._writer = writer
        self.tries = 0

    def replace(self, old: Job, new: Job) -> bool:
        self.tries += 1
        if self.tries == 3:
            self._writer.end()
        return super().replace(old, new)


def test_what_was_rendered_waits_for_a_busy_store(
    bench: Bench, database: Database, writer: Writer
) -> None:
    store = StoreFreedAtThirdTry(database, writer)
    job = bench.run(ScriptedRenderer(at_end=writer.begin), store=store)
    assert job == bench.row
    assert (job.status, store.tries) == (Status.COMPLETED, 3)


def test_a_store_that_stays_busy_leaves_the_job_to_the_next_engine(
    bench: Bench, writer: Writer
) -> None:
    with pytest.raises(errors.StoreBusy):
        bench.run(ScriptedRenderer(at_end=writer.begin))
    writer.end()
    assert (bench.row.status, bench.row.worker) == (Status.IN_PROGRESS, "0")


# what it used


def test_usage_adds_up_over_attempts(bench: Bench) -> None:
    spend = bench.watch.spend
    bench.attempt(spend(1), at(Stage.ENCODING), spend(2), at(Stage.DENOISING), spend(4), PASSING[0])
    job = bench.attempt(at(Stage.DENOISING), spend(8), at(Stage.WRITING), spend(16))
    assert job.usage == Usage(
        gpu_seconds=31.0,
        cost_usd=31.0 * PRICE,
        stages={
            Stage.PREPARING: 1.0,
            Stage.ENCODING: 2.0,
            Stage.DENOISING: 12.0,
            Stage.WRITING: 16.0,
        },
        attention="sdpa",
        gpu="NVIDIA L40S",
    )


def test_windows_that_were_rendered_again_add_up_over_attempts(bench: Bench) -> None:
    once, twice = (replace(at(Stage.DECODING), fallback_windows=count) for count in (1, 2))
    bench.attempt(at(Stage.DENOISING), once, once, PASSING[0])
    job = bench.attempt(at(Stage.DENOISING), twice, replace(twice, stage=Stage.WRITING))
    assert (job.status, job.usage.fallback_windows) == (Status.COMPLETED, 3)
    assert describe(job)["fallback_windows"] == 3


def test_the_row_knows_what_was_used_before_the_engine_is_killed(bench: Bench) -> None:
    seen: list[Usage] = []
    bench.attempt(
        at(Stage.ENCODING),
        bench.watch.spend(2),
        at(Stage.DENOISING),
        lambda: seen.append(bench.row.usage),
    )
    assert seen[0].gpu_seconds == 2.0
    assert seen[0].cost_usd == 2.0 * PRICE
    assert seen[0].stages[Stage.ENCODING] == 2.0


def test_moments_of_one_stage_are_kept_twice_a_second_at_most(bench: Bench) -> None:
    kept: list[Progress | None] = []

    def look() -> None:
        kept.append(bench.row.progress)

    acts: list[Act] = []
    for step in range(1, 7):
        acts += [at(Stage.DENOISING, 1, step), look, bench.watch.spend(0.2)]
    bench.attempt(*acts, at(Stage.DENOISING, 2), look, at(Stage.DECODING, 2), look)
    steps = [progress.step for progress in kept[:6] if progress]
    assert steps == [1, 1, 1, 4, 4, 4], "0.6 s apart"
    assert kept[6:] == [at(Stage.DENOISING, 2), at(Stage.DECODING, 2)], "a move is kept at once"


# the log


@pytest.mark.parametrize(
    ("acts", "status", "code"),
    [
        ((at(Stage.DENOISING),), "completed", None),
        ((FINAL[0],), "failed", "invalid_field"),
    ],
)
def test_one_line_tells_of_a_job_that_ended(
    bench: Bench, caplog: pytest.LogCaptureFixture, acts: tuple[Act, ...], status: str, code: str
) -> None:
    with caplog.at_level(logging.INFO):
        job = bench.attempt(*acts)
    (event,) = events(caplog)
    assert (event["status"], event["code"]) == (status, code)
    assert (event["job_id"], event["request_id"]) == (job.id, "r1")
    assert job.spec.prompt not in caplog.text


def test_no_line_tells_of_a_job_that_goes_on_or_was_ended_by_another(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        bench.attempt(PASSING[0])
        bench.attempt(bench.cancel)
    assert events(caplog) == []


def test_no_message_names_a_path_of_the_server(bench: Bench) -> None:
    busy = errors.JobBusy("Another process is at work in /data/jobs/1.")
    for _ in range(MAX_LOSSES):
        job = bench.attempt(busy)
    assert job.error is not None
    assert (job.error.code, "/" in job.error.message) == ("job_busy", False)
