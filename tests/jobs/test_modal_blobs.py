"""Files of jobs on a Volume: the contract, and what several containers do to one job."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import modal
import pytest
from grpclib import Status

from infinitetalk.errors import JobExpired, StoreBusy
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.blobs import BlobStore
from infinitetalk.jobs.modal_blobs import VolumeBlobStore
from infinitetalk.jobs.model import Job, Video
from infinitetalk.jobs.model import Status as JobStatus
from tests.jobs.contract import FILES, BlobStoreContract, files, staged
from tests.jobs.killed import Killed, kill
from tests.jobs.records import DAY_S, NOW, a_job
from tests.jobs.volumes import Moments, Volumes, Watched, tree
from tests.modal_control_plane.plane import ControlPlane

ADOPTING = range(1, 5)  # moments: before and after the files, before and after job.json
SHARED = sorted(set(FILES) - {"lock"})


class Fleet:
    """Containers that share a Volume."""

    def __init__(self, volume: modal.Volume, remote: Path, disks: Path) -> None:
        self._volume = volume
        self._disks = disks
        self.remote = remote

    def disk(self, name: str) -> Path:
        return self._disks / name

    def container(self, name: str, moments: Moments | None = None) -> VolumeBlobStore:
        watched = cast(modal.Volume, Watched(self._volume, moments or Moments()))
        return VolumeBlobStore(watched, self.disk(name), cache_bytes=10**6)

    def age(self, path: str, modified_at: float) -> None:
        for one in (self.remote / path, *(self.remote / path).rglob("*")):
            os.utime(one, (modified_at, modified_at))


@pytest.fixture
def fleet(volumes: Volumes, tmp_path: Path) -> Fleet:
    return Fleet(*volumes.make(), tmp_path / "disks")


def adopt(store: VolumeBlobStore, job_id: str) -> None:
    with store.staging() as folder:
        store.adopt(staged(folder), job_id)


def rendered(store: VolumeBlobStore, content: bytes = b"a video") -> Job:
    """The job "a", completed by this container."""
    store.folder("a").result.write_bytes(content)
    store.publish("a")
    video = Video(hashlib.sha256(content).hexdigest(), len(content), frames=25, windows=1)
    return replace(a_job(id="a"), status=JobStatus.COMPLETED, result=video)


class TestVolumeBlobStore(BlobStoreContract):
    @pytest.fixture
    def store(self, volumes: Volumes, tmp_path: Path) -> VolumeBlobStore:
        return VolumeBlobStore(volumes.make()[0], tmp_path / "scratch")

    def test_what_was_staged_becomes_the_jobs(self, store: BlobStore) -> None:
        """But its lock: nobody holds it in another container."""
        folder = self.adopted(store, "a")
        assert files(folder) == SHARED
        assert folder.job.read_text() == "content of job.json"
        assert list(store.ids()) == ["a"]


def test_a_job_goes_from_container_to_container(fleet: Fleet) -> None:
    intake, engine, gateway = (fleet.container(name) for name in ("intake", "engine", "gateway"))
    adopt(intake, "a")
    job = rendered(engine)
    assert gateway.result(job).read_bytes() == b"a video"
    gateway.erase("a")
    with pytest.raises(JobExpired):
        gateway.result(job)
    with pytest.raises(JobExpired):
        engine.folder("a")
    assert tree(fleet.remote) == tree(fleet.disk("gateway")) == {}


def test_an_attempt_that_was_fenced_off_replaces_no_video(fleet: Fleet) -> None:
    current, late = fleet.container("current"), fleet.container("late")
    adopt(current, "a")
    late.folder("a").result.write_bytes(b"another")
    job = rendered(current)
    late.publish("a")
    assert fleet.container("gateway").result(job).read_bytes() == b"a video"


def test_a_released_copy_is_gone_and_the_job_is_not(fleet: Fleet) -> None:
    store = fleet.container("engine")
    adopt(store, "a")
    folder = store.folder("a")
    for _ in range(2):
        store.release("a")
    assert not folder.root.exists()
    assert tree(fleet.disk("engine")) == {}
    assert files(store.folder("a")) == SHARED


def test_unfinished_files_of_an_intake_stay(fleet: Fleet) -> None:
    store = fleet.container("intake")
    with store.staging() as folder:
        job = staged(folder)
        (job.root / "input/scene.png.part").write_text("unfinished")
        store.adopt(job, "a")
    assert files(store.folder("a")) == SHARED


def test_adopting_has_as_many_moments_as_are_tried_below(fleet: Fleet) -> None:
    moments = Moments()
    adopt(fleet.container("intake", moments), "a")
    assert moments.passed == len(ADOPTING)


@pytest.mark.parametrize("moment", ADOPTING)
def test_a_killed_adoption_leaves_no_half_job(fleet: Fleet, moment: int) -> None:
    moments = Moments()
    store = fleet.container("intake", moments)
    moments.arm(kill, at=moment)
    with pytest.raises(Killed):
        adopt(store, "a")
    moments.disarm()
    other = fleet.container("engine")
    if moment < ADOPTING[-1]:
        with pytest.raises(JobExpired):
            other.folder("a")
        with pytest.raises(JobExpired), other.staging() as folder:
            other.copy_input("a", JobFolder(folder / "job"))
    else:
        assert files(other.folder("a")) == SHARED


def test_a_half_upload_is_seen_by_who_deletes_leftovers(fleet: Fleet) -> None:
    moments = Moments()
    store = fleet.container("intake", moments)
    moments.arm(kill, at=3)
    with pytest.raises(Killed):
        adopt(store, "a")
    moments.disarm()
    fleet.age("jobs/a", NOW - DAY_S)
    assert list(store.ids()) == ["a"]
    assert store.age_s("a", NOW) == DAY_S
    store.erase("a")
    assert list(store.ids()) == []


def test_a_request_that_the_intake_uploaded_is_adopted_where_it_is(fleet: Fleet) -> None:
    gateway = fleet.container("gateway")
    with gateway.staging() as folder:
        adopt(fleet.container("intake"), folder.name)
        gateway.adopt(JobFolder(folder / "job"), folder.name)
    assert files(gateway.folder(folder.name)) == SHARED


def test_a_request_that_did_not_arrive_is_not_adopted(fleet: Fleet) -> None:
    gateway = fleet.container("gateway")
    with gateway.staging() as folder, pytest.raises(StoreBusy):
        gateway.adopt(JobFolder(folder / "job"), folder.name)


def test_a_listing_that_fails_hides_no_files(fleet: Fleet, plane: ControlPlane) -> None:
    """Or a sweep would take a job for one without files."""
    store = fleet.container("tend")
    adopt(store, "a")
    calls = (store.ids, lambda: store.size_bytes("a"), lambda: store.age_s("a", NOW))
    for call in calls:
        plane.fail("VolumeListFiles2", Status.RESOURCE_EXHAUSTED, times=3)
        with pytest.raises(StoreBusy):
            call()
    assert list(store.ids()) == ["a"]


def test_the_age_is_that_of_the_newest_file(fleet: Fleet) -> None:
    store = fleet.container("tend")
    adopt(store, "a")
    fleet.age("jobs/a", NOW - 2 * DAY_S)
    os.utime(fleet.remote / "jobs/a/input/sound_1", (NOW - DAY_S, NOW - DAY_S))
    assert store.age_s("a", NOW) == DAY_S
    assert store.age_s("a", NOW - 3 * DAY_S) == 0.0  # a clock behind Modal's
    assert store.age_s("b", NOW) == 0.0


def test_what_was_sent_is_fetched_elsewhere_and_dropped(fleet: Fleet, tmp_path: Path) -> None:
    gateway, intake = fleet.container("gateway"), fleet.container("intake")
    for name in ("image", "audio"):
        (tmp_path / name).write_text(f"content of {name}")
    gateway.send("a", {name: tmp_path / name for name in ("image", "audio")})
    fetched = intake.fetch("a", tmp_path / "in")
    assert [path.name for path in fetched] == ["audio", "image"]
    assert [path.read_text() for path in fetched] == ["content of audio", "content of image"]
    for _ in range(2):
        intake.drop("a")
    assert tree(fleet.remote) == {}
    with pytest.raises(JobExpired):
        intake.fetch("a", tmp_path / "again")


def test_only_old_leftovers_of_requests_are_deleted(fleet: Fleet, tmp_path: Path) -> None:
    store = fleet.container("tend")
    (tmp_path / "image").write_text("an image")
    for job_id, age_s in (("old", DAY_S + 1), ("young", DAY_S - 1)):
        store.send(job_id, {"image": tmp_path / "image"})
        fleet.age(f"staging/{job_id}", NOW - age_s)
    adopt(store, "a")
    fleet.age("jobs/a", NOW - 2 * DAY_S)
    store.clean(NOW, DAY_S)
    assert sorted(tree(fleet.remote)) == sorted(
        ["staging/young/image", *(f"jobs/a/{name}" for name in SHARED)]
    )


def test_there_is_nothing_to_clean_on_a_new_volume(fleet: Fleet) -> None:
    store = fleet.container("tend")
    store.clean(NOW, DAY_S)
    assert list(store.ids()) == []
