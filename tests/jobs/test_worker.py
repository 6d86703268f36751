"""The engine process, killed, stopped and broken in the middle of real jobs of the tiny model."""

import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from infinitetalk.config import Settings
from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.model import Job, Status, cancel
from infinitetalk.jobs.worker import FAULT_EXIT
from infinitetalk.spec import specify
from tests.end_to_end.reading import read_video
from tests.jobs.interfering import END, START, Moment, release
from tests.jobs.nursery import EngineProcess, Nursery
from tests.jobs.site import SECONDS, SPEC, WINDOWS, Site
from tests.jobs.supervising import stand_in_command
from tests.jobs.waiting import is_alive, until

MOMENTS = [
    Moment(START),
    Moment("encoding", 2),
    Moment("denoising", 2, 1),
    Moment("decoding", 3, 2),
    Moment("writing", 3, 2),
    Moment(END),
]
EVERY_MOMENT = [
    Moment(START),
    Moment("encoding"),
    *(
        Moment(stage, window, step)
        for window in range(1, WINDOWS + 1)
        for stage, step in [
            *(("encoding", 0), ("denoising", 0), ("denoising", 1), ("denoising", 2)),
            ("decoding", 2),
        ]
    ),
    Moment("writing", 3, 2),
    Moment(END),
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the weights of `tiny` are, written by the first engine."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def input_folder(
    tmp_path_factory: pytest.TempPathFactory, make_track: Callable[..., Path]
) -> JobFolder:
    """A job that nobody has begun."""
    folder = tmp_path_factory.mktemp("input")
    draw_portrait(160).save(folder / "portrait.png")
    job = JobFolder(folder / "job")
    create_job(job, SPEC, folder / "portrait.png", [make_track(SECONDS)], Settings())
    return job


@pytest.fixture
def site(tmp_path: Path, home: Path, nursery: Nursery, input_folder: JobFolder) -> Iterator[Site]:
    site = Site(tmp_path, home, nursery, input_folder)
    yield site
    site.close()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    home: Path,
    nursery: Nursery,
    input_folder: JobFolder,
) -> np.ndarray:
    """Decoded frames of a job that nobody disturbed."""
    site = Site(tmp_path_factory.mktemp("undisturbed"), home, nursery, input_folder)
    site.engine()
    job = site.until_ended(site.submit())
    assert (job.status, job.attempt, job.losses) == (Status.COMPLETED, 1, 0)
    frames = read_video(site.folder(job).result).frames
    site.close()
    return frames


def assert_one_whole_result(site: Site, job: Job, frames: np.ndarray) -> None:
    """The video is what it would have been, and nothing else is left."""
    assert job.result is not None
    folder = site.folder(job)
    assert folder.result.stat().st_size == job.result.size_bytes
    assert np.array_equal(read_video(folder.result).frames, frames)
    assert not list(folder.root.rglob("*.part"))  # the next job may be under way
    assert not list((site.data / "staging").iterdir())


def children(engine: EngineProcess) -> list[psutil.Process]:
    try:
        return psutil.Process(engine.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_9(engine: EngineProcess) -> None:
    """Also the ffmpeg it had started must be gone soon."""
    family = children(engine)
    engine.kill()
    until(lambda: not any(is_alive(process) for process in family), patience_s=20)


def kill_at(site: Site, moment: Moment) -> Job:
    """A job whose first engine is killed at this moment, as the second one leaves it."""
    job = site.submit()
    moment.plan(site.data, "pause")
    first = site.engine()
    site.until_paused()
    assert (site.row(job).status, site.row(job).attempt) == (Status.IN_PROGRESS, 1)
    kill_9(first)
    release(site.data)
    site.engine()
    return site.until_ended(job)


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_kill_9_at_any_stage_costs_a_loss_and_not_a_frame(
    site: Site, undisturbed: np.ndarray, moment: Moment
) -> None:
    job = kill_at(site, moment)
    assert (job.status, job.attempt, job.losses) == (Status.COMPLETED, 2, 1)
    assert_one_whole_result(site, job, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", EVERY_MOMENT, ids=str)
def test_kill_9_at_every_step_costs_a_loss_and_not_a_frame(
    site: Site, undisturbed: np.ndarray, moment: Moment
) -> None:
    job = kill_at(site, moment)
    assert (job.status, job.attempt, job.losses) == (Status.COMPLETED, 2, 1)
    assert_one_whole_result(site, job, undisturbed)


@pytest.mark.parametrize("window", range(WINDOWS))
def test_kill_9_as_a_window_is_published_keeps_the_windows_before(
    site: Site, undisturbed: np.ndarray, window: int
) -> None:
    job = site.submit()
    folder = site.folder(job)
    first = site.engine()
    until(folder.fragment(window).exists)
    kill_9(first)
    kept = {path: path.stat().st_ino for path in map(folder.fragment, range(window))}
    assert site.row(job).status is Status.IN_PROGRESS
    site.engine()
    job = site.until_ended(job)
    assert (job.status, job.attempt, job.losses) == (Status.COMPLETED, 2, 1)
    assert {path: path.stat().st_ino for path in kept} == kept, "rendered once"
    assert_one_whole_result(site, job, undisturbed)


def test_sigterm_hands_the_job_back_and_the_next_engine_goes_on_with_it(
    site: Site, undisturbed: np.ndarray
) -> None:
    job, behind = site.submit(), site.submit()
    Moment("denoising", 2, 1).plan(site.data, "pause")
    first = site.engine()
    site.until_paused()
    first.send(signal.SIGTERM)
    release(site.data)
    assert first.wait(20) == 0
    back = site.row(job)
    assert (back.status, back.losses, back.worker) == (Status.PENDING, 0, None)
    assert [site.host.queue.position(waiting) for waiting in (job, behind)] == [0, 1]
    assert site.state() is EngineState.STOPPED
    window = site.folder(job).fragment(0).stat().st_ino
    site.engine()
    done = site.until_ended(job)
    assert (done.status, done.attempt, done.losses) == (Status.COMPLETED, 2, 0)
    assert done.usage.gpu_seconds > back.usage.gpu_seconds > 0
    assert site.folder(job).fragment(0).stat().st_ino == window, "rendered once"
    assert_one_whole_result(site, done, undisturbed)


def test_a_lost_parent_hands_the_job_back(site: Site) -> None:
    job = site.submit()
    Moment("denoising", 1, 1).plan(site.data, "pause")
    engine = site.engine()
    site.until_paused()
    engine.leave_alone()
    release(site.data)
    assert engine.wait(20) == 0
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 0)


def test_a_step_that_takes_too_long_is_cut_off_and_the_job_handed_back(site: Site) -> None:
    job = site.submit()
    Moment("denoising", 1, 1).plan(site.data, "pause")
    engine = site.engine(grace_s=0.2)
    site.until_paused()
    engine.send(signal.SIGTERM)
    assert engine.wait(20) == 1
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 0)


def test_a_cuda_fault_costs_one_attempt_and_the_next_job_nothing(
    site: Site, undisturbed: np.ndarray
) -> None:
    job, other = site.submit(), site.submit()
    Moment("denoising", 2, 1).plan(site.data, "fault")
    first = site.engine()
    assert first.wait() == FAULT_EXIT
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 1)
    assert site.row(other).attempt == 0
    assert site.state() is EngineState.FAILED
    assert SPEC.prompt not in first.log
    site.engine()
    job, other = site.until_ended(job), site.until_ended(other)
    assert (job.status, job.attempt) == (Status.COMPLETED, 2)
    assert (other.status, other.attempt) == (Status.COMPLETED, 1)
    for done in (job, other):
        assert_one_whole_result(site, done, undisturbed)


def test_cancel_while_running_ends_within_the_step_and_stays(
    site: Site, undisturbed: np.ndarray
) -> None:
    job, other = site.submit(), site.submit()
    Moment("denoising", 1, 1).plan(site.data, "pause")
    site.engine()
    site.until_paused()
    running = site.row(job)
    assert site.host.store.replace(running, cancel(running, running.created_at))
    canceled = site.row(job)
    release(site.data)
    other = site.until_ended(other)
    assert (other.status, other.attempt) == (Status.COMPLETED, 1)
    assert site.row(job) == canceled
    assert not site.folder(job).result.exists()
    assert not list(site.folder(job).fragment(0).parent.glob("*.m4s"))
    assert_one_whole_result(site, other, undisturbed)


def test_cancel_while_waiting_never_reaches_the_engine(site: Site) -> None:
    running, waiting, last = (site.submit() for _ in range(3))
    Moment("denoising", 1).plan(site.data, "pause")
    site.engine()
    site.until_paused()
    assert site.host.store.replace(waiting, cancel(waiting, waiting.created_at))
    release(site.data)
    assert site.until_ended(last).status is Status.COMPLETED
    assert site.row(running).status is Status.COMPLETED
    assert site.row(waiting).attempt == 0
    assert not site.folder(waiting).checkpoint.exists()


def test_erasing_a_running_job_takes_its_files_away_and_harms_nothing(site: Site) -> None:
    job, other = site.submit(), site.submit()
    Moment("decoding", 1, 2).plan(site.data, "pause")
    engine = site.engine()
    site.until_paused()
    running = site.row(job)
    canceled = cancel(running, running.created_at)
    assert site.host.store.replace(running, canceled)
    site.host.blobs.erase(job.id)
    release(site.data)
    assert site.until_ended(other).status is Status.COMPLETED
    assert not engine.has_ended
    assert site.row(job).status is Status.CANCELED


def test_two_engines_of_one_slot_do_not_work_at_once(site: Site) -> None:
    job = site.submit()
    Moment(START).plan(site.data, "pause")
    first = site.engine()
    site.until_paused()
    running = site.row(job)
    second = site.engine()
    until(lambda: "waits for the engine before" in second.log)
    second.send(signal.SIGTERM)
    assert second.wait() == 0
    assert (site.row(job), first.has_ended) == (running, False)
    third = site.engine()
    kill_9(first)
    release(site.data)
    assert site.until_ended(job).status is Status.COMPLETED
    assert not third.has_ended


def test_after_a_change_of_the_deployment_jobs_of_the_old_preset_fail_and_new_ones_run(
    site: Site, undisturbed: np.ndarray
) -> None:
    old, new = site.submit(specify("demo")), site.submit()
    engine = site.engine(preset="tiny")
    assert site.until_ended(new).status is Status.COMPLETED
    assert_one_whole_result(site, site.row(new), undisturbed)
    failed = site.row(old)
    assert (failed.status, failed.attempt) == (Status.FAILED, 1)
    assert failed.error is not None
    assert (failed.error.code, failed.error.field) == ("invalid_field", "preset")
    assert "preset demo" in failed.error.message and "runs tiny" in failed.error.message
    assert not site.folder(old).checkpoint.exists()
    assert not engine.has_ended


def test_weights_that_are_missing_end_the_engine_with_their_code(site: Site) -> None:
    job = site.submit()
    engine = site.engine(preset="standard")
    assert engine.wait() == 3
    (told,) = site.host.engines.all()
    assert (told.state, told.error) == (EngineState.FAILED, "weights_missing")
    assert site.row(job) == job


def test_an_engine_waits_for_room_before_it_takes_a_job(site: Site) -> None:
    """On a full disk every job would fail in its turn."""
    job = site.submit()
    engine = site.engine(min_free_gigabytes="1000000")
    until(lambda: "no room to render" in engine.log)
    assert site.row(job) == job
    assert not engine.has_ended
    engine.send(signal.SIGTERM)
    assert engine.wait(20) == 0


def stand_in(data: Path) -> "subprocess.Popen[bytes]":
    """An engine without a model, as a child of this process."""
    command = stand_in_command(data)("0")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_error_in_loading_that_nobody_thought_of_is_told(site: Site) -> None:
    (site.data / "load").write_text("break")
    with stand_in(site.data) as engine:
        assert engine.wait(60) == 1
    (told,) = site.host.engines.all()
    assert (told.state, told.error) == (EngineState.FAILED, "internal")


def test_a_store_that_cannot_be_opened_ends_the_engine_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("no database " * 1000)
    with stand_in(tmp_path) as engine:
        _, log = engine.communicate(timeout=60)
    assert engine.returncode == 3
    assert b"store_corrupt" in log


def test_an_engine_whose_parent_is_gone_ends_although_its_pipe_is_open(site: Site) -> None:
    """Another child of the parent may have inherited the other end."""
    child = ["sh", "-c", 'exec 3<&0; "$@" <&3 & wait', "sh", *stand_in_command(site.data)("0")]
    with subprocess.Popen(child, stdin=subprocess.PIPE) as parent:
        until(lambda: site.state() is EngineState.READY)
        (told,) = site.host.engines.all()
        engine = psutil.Process(told.pid)
        assert engine.ppid() == parent.pid
        parent.kill()
        until(lambda: not is_alive(engine), patience_s=20)
        assert site.state() is EngineState.STOPPED


@pytest.mark.slow
def test_a_store_that_is_busy_for_long_does_not_end_the_engine(site: Site) -> None:
    """Loading a large model again would take longer."""
    engine = site.engine()
    until(lambda: site.state() is EngineState.READY)
    with closing(sqlite3.connect(site.data / "jobs.db", isolation_level=None)) as writer:
        job = submit_and_lock(site, writer)
        until(lambda: "no job can be taken" in engine.log)
        assert site.row(job).status is Status.PENDING
        writer.execute("ROLLBACK")
    assert site.until_ended(job).status is Status.COMPLETED
    assert not engine.has_ended


def submit_and_lock(site: Site, writer: sqlite3.Connection) -> Job:
    """A job that no engine has got by the time that nobody else can write."""
    job = site.submit()
    writer.execute("BEGIN IMMEDIATE")
    if site.row(job).status is Status.PENDING:
        return job
    writer.execute("ROLLBACK")
    site.until_ended(job)
    return submit_and_lock(site, writer)


def test_an_idle_engine_stops_at_once(site: Site) -> None:
    engine = site.engine()
    until(lambda: site.state() is EngineState.READY)
    (told,) = site.host.engines.all()
    assert (told.pid, told.device, told.preset) == (engine.pid, "cpu", "tiny")
    assert (told.resolutions, told.speakers) == (("48p",), 2)
    engine.send(signal.SIGINT)
    assert engine.wait(5) == 0
