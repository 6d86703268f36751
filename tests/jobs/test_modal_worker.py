"""A job in a GPU container of the fleet: taken over, shared, handed back, and never done twice."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore, current_thread, main_thread
from typing import Any, cast

import modal
import pytest
from modal.exception import InputCancellation, ServiceError

from infinitetalk.config import Settings
from infinitetalk.errors import OutOfMemory
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.execute import EngineFault
from infinitetalk.jobs.modal_blobs import VolumeBlobStore
from infinitetalk.jobs.modal_calls import Outcome
from infinitetalk.jobs.modal_queue import LOST, ModalQueue
from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.modal_worker import UNKNOWN, ModalWorker
from infinitetalk.jobs.model import MAX_LOSSES, Job, Status, cancel, complete, fail, start
from tests.jobs.contract import put, staged
from tests.jobs.dicts import Dicts, Fleet, Moment
from tests.jobs.killed import Killed
from tests.jobs.records import ENOUGH, NOW, PROBLEM, STEP, VIDEO, FakeClock, a_job
from tests.jobs.scripted import CONTENT, Act, ScriptedRenderer
from tests.jobs.scripted_calls import ScriptedCalls
from tests.jobs.volumes import Moments, Volumes, Watched, tree

PATIENCE_S = 30.0
OUT_OF_MEMORY = OutOfMemory("The device ran out of memory.")
CUDA = RuntimeError("CUDA error: an illegal memory access was encountered")
VIDEO_NAME = f"{hashlib.sha256(CONTENT).hexdigest()}.mp4"


class Container:
    """One engine: its process, its disk, and what happens there."""

    def __init__(self, site: "Site", disk: Path) -> None:
        self._site = site
        self._disk = disk
        self.moments = Moments()
        self.told: list[Job] = []  # of the jobs that ended here
        self.ended = Event()  # the process was

    def run(self, job: Job, call_id: str, *acts: Act, **options: Any) -> str:
        return self.run_renderer(job, call_id, ScriptedRenderer(*acts), **options)

    def run_renderer(
        self,
        job: Job,
        call_id: str,
        renderer: ScriptedRenderer,
        *,
        stall_s: float = 1e6,
        looks: "Looks | None" = None,
        **options: Any,
    ) -> str:
        site = self._site
        volume = cast(modal.Volume, Watched(site.volume, self.moments))
        worker = ModalWorker(
            site.fleet.store(cast(Moment, looks)),
            VolumeBlobStore(volume, self._disk),
            site.queue,
            site.calls,
            renderer,
            Settings(stall_seconds=stall_s),
            on_ended=self.told.append,
            end_process=self.ended.set,
            clock=site.clock,
            **{"share_s": 0.005, "watch_s": 0.005, **options},
        )
        return worker.run(job.id, call_id)

    def render(self, job: Job, window: int, content: str = "a window") -> Callable[[], None]:
        """Finish a window, as a renderer does: it appears whole."""

        def act() -> None:
            part = self._disk / "window.part"
            part.write_text(content)
            part.replace(self.folder(job).fragment(window))

        return act

    def folder(self, job: Job) -> JobFolder:
        """The local copy."""
        return JobFolder(self._disk / "jobs" / job.id)

    def until_shared(self, job: Job, window: int) -> Callable[[], None]:
        """Wait until a window is on the Volume."""
        arrived, remote = Event(), self._site.remote(job).fragment(window)

        def look() -> None:
            if remote.exists():
                arrived.set()

        def act() -> None:
            self.moments.arm(look)
            look()
            assert arrived.wait(PATIENCE_S)

        return act


class Site:
    """Containers of one fleet."""

    def __init__(self, fleet: Fleet, volume: modal.Volume, folder: Path, disks: Path) -> None:
        self.fleet = fleet
        self.volume = volume
        self._folder = folder
        self._disks = disks
        self.clock = FakeClock()
        self.calls = ScriptedCalls()
        self.store = fleet.store()
        self.queue = ModalQueue(self.store, Table(fleet.jobs), self.calls, self.clock)

    def submit(self) -> Job:
        """A job that waits for its call `fc-1`."""
        job = self.store.add(a_job(), limit=ENOUGH)
        scratch = self._disks / "intake"
        scratch.mkdir(parents=True, exist_ok=True)
        blobs = VolumeBlobStore(self.volume, scratch)
        with blobs.staging() as folder:
            blobs.adopt(staged(folder), job.id)
        self.queue.enqueue(job)
        return job

    def begun(self, call_id: str = "fc-1", **changes: Any) -> Job:
        """A job that a container was at when it died."""
        job = self.submit()
        return put(self.store, job, replace(start(job, call_id, NOW), **changes))

    def container(self, name: str = "engine") -> Container:
        disk = self._disks / name
        disk.mkdir(parents=True, exist_ok=True)
        return Container(self, disk)

    def remote(self, job: Job) -> JobFolder:
        """What the Volume has."""
        return JobFolder(self._folder / "jobs" / job.id)

    def row(self, job: Job) -> Job:
        return self.store.get(job.id)


@pytest.fixture
def site(dicts: Dicts, volumes: Volumes, tmp_path: Path) -> Site:
    return Site(dicts.fleet(), *volumes.make(), tmp_path)


# one attempt


def test_a_waiting_job_is_taken_and_ended(site: Site) -> None:
    job, container = site.submit(), site.container()
    site.clock.now += 5
    assert container.run(job, "fc-1", STEP) == "completed"
    row = site.row(job)
    assert (row.status, row.attempt, row.losses, row.worker) == (Status.COMPLETED, 1, 0, "fc-1")
    assert (row.executed_at, row.usage.gpu) == (NOW + 5, "NVIDIA L40S")
    assert tree(site.remote(job).root)[VIDEO_NAME] == CONTENT.decode()
    assert container.told == [row]
    assert len(site.calls.made) == 1
    assert not container.folder(job).root.exists()
    assert not container.ended.is_set()


def test_a_canceled_job_ends_within_the_step_and_is_told_of(site: Site) -> None:
    job, container = site.submit(), site.container()

    def give_up() -> None:
        put(site.store, site.row(job), cancel(site.row(job), NOW))

    renderer = ScriptedRenderer(give_up, STEP)
    assert container.run_renderer(job, "fc-1", renderer) == "canceled"
    assert (container.told, renderer.played) == ([site.row(job)], 1)
    assert len(site.calls.made) == 1


def test_after_a_passing_fault_the_job_is_called_for_again(site: Site) -> None:
    job, container = site.submit(), site.container()
    assert container.run(job, "fc-1", OUT_OF_MEMORY) == "pending"
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 1)
    assert site.calls.of(job.id) == ["fc-1", "fc-2"]
    assert container.told == []
    assert container.run(job, "fc-2") == "completed"


def test_a_platform_out_of_reach_does_not_make_a_passing_fault_worse(site: Site) -> None:
    job, container = site.submit(), site.container()
    site.calls.is_reachable = False
    assert container.run(job, "fc-1", OUT_OF_MEMORY) == "pending"
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 1)


def test_a_broken_device_settles_the_job_and_ends_the_process(site: Site) -> None:
    job, container = site.submit(), site.container()
    with pytest.raises(EngineFault):
        container.run(job, "fc-1", CUDA)
    assert container.ended.is_set()
    assert (site.row(job).status, site.row(job).losses) == (Status.PENDING, 1)
    assert site.container("next").run(job, "fc-1") == "completed"
    assert (site.row(job).attempt, site.row(job).losses) == (2, 1)


def test_an_engine_that_makes_no_step_for_too_long_is_ended(site: Site) -> None:
    job, container = site.submit(), site.container()

    def hang() -> None:
        assert container.ended.wait(PATIENCE_S)

    container.run(job, "fc-1", hang, stall_s=0.01)
    assert container.ended.is_set()


class Stopwatch:
    """Monotonic seconds that pass when told, and a moment at which a watching thread has looked."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looked = Event()

    def __call__(self) -> float:
        if current_thread() is not main_thread():
            self._looked.set()
        return self.now

    def spend(self, seconds: float) -> Callable[[], None]:
        """Let time pass, and be looked at twice: the first look may have begun before."""

        def act() -> None:
            self.now += seconds
            for _ in range(2):
                self._looked.clear()
                assert self._looked.wait(PATIENCE_S)

        return act


def test_an_engine_that_makes_steps_is_left_alone_however_long_it_takes(site: Site) -> None:
    job, container, watch = site.submit(), site.container(), Stopwatch()
    acts = [watch.spend(9)] * 5
    assert container.run(job, "fc-1", *acts, stall_s=10, monotonic=watch) == "completed"
    assert not container.ended.is_set()
    assert site.row(job).usage.gpu_seconds == 45


class Looks:
    """What a thread beside the engine's own asks of the store."""

    def __init__(self) -> None:
        self._came = Semaphore(0)

    def tick(self) -> None:
        if current_thread() is not main_thread():
            self._came.release()

    def wait(self) -> None:
        """Until the thread has asked so often that it has been at everything at least once."""
        while self._came.acquire(blocking=False):
            pass
        for _ in range(8):
            assert self._came.acquire(timeout=PATIENCE_S)


# who has the job


def test_a_restarted_call_takes_its_job_over_and_that_is_a_loss(site: Site) -> None:
    job = site.begun()
    assert site.container().run(job, "fc-1") == "completed"
    assert (site.row(job).attempt, site.row(job).losses) == (2, 1)


def test_a_call_that_died_too_often_takes_its_job_with_it(site: Site) -> None:
    job, container = site.begun(losses=MAX_LOSSES - 1), site.container()
    renderer = ScriptedRenderer(STEP)
    assert container.run_renderer(job, "fc-1", renderer) == "failed"
    row = site.row(job)
    assert (row.status, row.error, row.losses) == (Status.FAILED, LOST, MAX_LOSSES)
    assert (container.told, renderer.played) == ([row], 0)


def test_a_second_call_leaves_the_job_to_the_one_at_work(site: Site) -> None:
    job, container = site.begun("fc-1"), site.container()
    renderer = ScriptedRenderer(STEP)
    assert container.run_renderer(job, "fc-2", renderer) == "in_progress"
    assert (site.row(job), renderer.played, container.told) == (job, 0, [])
    assert len(site.calls.made) == 1


@pytest.mark.parametrize("outcome", [Outcome.ENDED, Outcome.TIMED_OUT])
def test_a_second_call_takes_the_job_of_one_that_is_over(site: Site, outcome: Outcome) -> None:
    job = site.begun("fc-1")
    site.calls.end("fc-1", outcome)
    assert site.container().run(job, "fc-2") == "completed"
    row = site.row(job)
    assert (row.attempt, row.losses, row.worker) == (2, 1, "fc-2")


@pytest.mark.parametrize(
    "end",
    [
        lambda job: complete(job, VIDEO, job.usage, NOW),
        lambda job: fail(job, PROBLEM, NOW),
        lambda job: cancel(job, NOW),
    ],
    ids=["completed", "failed", "canceled"],
)
def test_a_job_that_has_ended_is_not_touched(site: Site, end: Callable[[Job], Job]) -> None:
    job, container = site.begun(), site.container()
    ended = put(site.store, job, end(job))
    assert container.run(job, "fc-1") == ended.status
    assert (site.row(job), container.told, container.moments.passed) == (ended, [], 0)


def test_a_job_that_was_forgotten_is_no_error(site: Site) -> None:
    container = site.container()
    assert container.run(a_job(), "fc-1") == UNKNOWN
    assert (container.told, container.moments.passed) == ([], 0)


def test_of_two_containers_with_one_call_the_later_one_has_the_job(site: Site) -> None:
    """The platform took the first for dead."""
    job, early, late = site.submit(), site.container("early"), site.container("late")

    def be_replaced() -> None:
        assert late.run(job, "fc-1", late.render(job, 0, "of the heir")) == "completed"

    shared = (early.render(job, 0, "early"), early.until_shared(job, 0))
    renderer = ScriptedRenderer(*shared, be_replaced, STEP)
    assert early.run_renderer(job, "fc-1", renderer) == "completed"
    row = site.row(job)
    assert (row.status, row.attempt, row.losses) == (Status.COMPLETED, 2, 1)
    assert (late.told, early.told) == ([row], [])
    assert renderer.played == 3, "it stops at its next step"
    assert len(site.calls.made) == 1


def test_an_attempt_that_was_taken_over_shares_nothing_any_more(site: Site) -> None:
    job, early, late = site.submit(), site.container("early"), site.container("late")
    looks = Looks()

    def go_on() -> None:
        late.run(job, "fc-1", late.render(job, 0, "of the heir"))
        early.render(job, 0, "too late")()
        looks.wait()

    early.run(job, "fc-1", go_on, looks=looks)
    assert tree(site.remote(job).root)["fragments/00000.m4s"] == "of the heir"


# what the next container finds


def test_finished_windows_are_shared_while_the_next_one_is_rendered(site: Site) -> None:
    job, container = site.submit(), site.container()
    acts: list[Act] = []
    for window in range(2):
        acts += [container.render(job, window, f"window {window}"), STEP]
        acts += [container.until_shared(job, window), STEP]
    assert container.run(job, "fc-1", *acts) == "completed"
    shared = tree(site.remote(job).root)
    assert [shared[f"fragments/0000{n}.m4s"] for n in range(2)] == ["window 0", "window 1"]


def test_what_could_not_be_shared_is_shared_at_the_next_turn(site: Site) -> None:
    job, container = site.submit(), site.container()
    has_failed = Event()

    def fail() -> None:
        has_failed.set()
        raise ServiceError("The platform is busy.")

    def finish() -> None:
        container.moments.arm(fail, at=1)
        container.render(job, 0)()
        assert has_failed.wait(PATIENCE_S)

    acts = (finish, container.until_shared(job, 0), STEP)
    assert container.run(job, "fc-1", *acts) == "completed"
    assert (site.row(job).attempt, site.row(job).losses) == (1, 0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, InputCancellation])
def test_a_container_that_is_taken_away_hands_its_job_back_with_what_was_finished(
    site: Site, kind: type[BaseException]
) -> None:
    job, first = site.submit(), site.container("first")

    def be_taken_away() -> None:
        raise kind

    with pytest.raises(kind):
        first.run(job, "fc-1", first.render(job, 0), be_taken_away, share_s=1e6)
    row = site.row(job)
    assert (row.status, row.losses, row.worker) == (Status.PENDING, 0, None)
    assert (first.told, len(site.calls.made), site.queue.position(job)) == ([], 1, 0)
    found: list[str] = []
    second = site.container("second")
    look = second.folder(job).fragment
    assert second.run(job, "fc-1", lambda: found.append(look(0).read_text())) == "completed"
    assert (found, site.row(job).attempt, site.row(job).losses) == (["a window"], 2, 0)


def test_a_container_that_is_taken_away_takes_no_canceled_job_back(site: Site) -> None:
    job, container = site.submit(), site.container()

    def be_taken_away() -> None:
        put(site.store, site.row(job), cancel(site.row(job), NOW))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        container.run(job, "fc-1", be_taken_away)
    assert site.row(job).status is Status.CANCELED


def test_a_restarted_call_goes_on_with_the_windows_that_were_shared(site: Site) -> None:
    """The container before it died without a word."""
    job, first, second = site.submit(), site.container("first"), site.container("second")

    def die() -> None:
        raise Killed

    acts = (first.render(job, 0), first.until_shared(job, 0), die)
    with pytest.raises(Killed):
        first.run(job, "fc-1", *acts)
    found: list[str] = []
    look = second.folder(job).fragment
    assert second.run(job, "fc-1", lambda: found.append(look(0).read_text())) == "completed"
    assert (found, site.row(job).attempt, site.row(job).losses) == (["a window"], 2, 1)
