"""Local copies of jobs on a Volume: whatever is killed or runs at once, none is half there."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import modal
import pytest
from grpclib import Status

from infinitetalk.errors import JobExpired, StoreBusy
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.modal_copies import JobCopies
from infinitetalk.jobs.modal_files import VolumeFiles
from tests.jobs.killed import Killed, kill
from tests.jobs.volumes import Moments, Volumes, Watched, tree
from tests.modal_control_plane.plane import ControlPlane

JOB = {"job.json": "spec", "input/scene.png": "scene", "input/sound_1": "sound"}
PUBLISHING = range(1, 5)  # moments: before and after the fragments, before and after the checkpoint
UPLOADS = 300
MAKING = range(1, 13)  # of a copy of JOB with a fragment: checkpoint, listing, its four files


class Fleet:
    """Containers that share a Volume on which the job "a" is."""

    def __init__(self, volume: modal.Volume, root: Path, disks: Path) -> None:
        self._volume = volume
        self._disks = disks
        self.remote = JobFolder(root / "jobs" / "a")
        for name, content in JOB.items():
            path = self.remote.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def disk(self, name: str) -> Path:
        return self._disks / name

    def container(self, name: str, moments: Moments | None = None) -> JobCopies:
        watched = Watched(self._volume, moments or Moments())
        return JobCopies(VolumeFiles(cast(modal.Volume, watched)), self.disk(name))


class Engine:
    """Writes as the runner does: a window's fragment, then the checkpoint that counts it."""

    def __init__(self, copy: JobFolder, name: str = "first") -> None:
        self._copy = copy
        self._name = name
        self._next = int(copy.checkpoint.read_text()) if copy.checkpoint.exists() else 0

    def window(self) -> None:
        _replace(self._copy.fragment(self._next), f"{self._name} {self._next}")
        self._next += 1
        _replace(self._copy.checkpoint, str(self._next))

    def video(self) -> str:
        """Its name on the Volume."""
        _replace(self._copy.result, f"video of {self._name}")
        return f"{hashlib.sha256(self._copy.result.read_bytes()).hexdigest()}.mp4"


def _replace(path: Path, content: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(content)
    part.replace(path)


def require_sound(folder: JobFolder) -> None:
    """Every fragment that the checkpoint counts is there, whole."""
    windows = int(folder.checkpoint.read_text()) if folder.checkpoint.exists() else 0
    for number in range(windows):
        assert folder.fragment(number).read_text().endswith(f" {number}")


@pytest.fixture
def fleet(volumes: Volumes, tmp_path: Path) -> Fleet:
    return Fleet(*volumes.make(), tmp_path / "disks")


def test_a_copy_has_the_input_and_place_for_fragments(fleet: Fleet) -> None:
    copy = fleet.container("one").make("a")
    assert tree(copy.root) == JOB
    assert copy.fragment(0).parent.is_dir()


@pytest.mark.parametrize("missing", ["everything", "job.json"])
def test_there_is_no_copy_of_a_job_that_is_not_whole(fleet: Fleet, missing: str) -> None:
    if missing == "everything":
        fleet.remote.remove()
    else:
        fleet.remote.job.unlink()
    with pytest.raises(JobExpired):
        fleet.container("one").make("a")
    assert tree(fleet.disk("one")) == {}


def test_another_container_continues_where_one_stopped(fleet: Fleet) -> None:
    one = fleet.container("one")
    engine = Engine(one.make("a"))
    for _ in range(3):
        engine.window()
    one.publish("a")
    copy = fleet.container("two").make("a")
    fragments = {f"fragments/{n:05d}.m4s": f"first {n}" for n in range(3)}
    assert tree(copy.root) == {**JOB, **fragments, "checkpoint.safetensors": "3"}


def test_the_video_goes_by_its_content_and_does_not_come_back(fleet: Fleet) -> None:
    one = fleet.container("one")
    name = Engine(one.make("a")).video()
    one.publish("a")
    assert (fleet.remote.root / name).read_text() == "video of first"
    assert tree(fleet.container("two").make("a").root) == JOB


def test_locks_and_unfinished_files_stay(fleet: Fleet) -> None:
    one = fleet.container("one")
    copy = one.make("a")
    for path in (copy.lock, copy.fragment(0), copy.checkpoint, copy.result):
        path.with_name(f"{path.name}.part").write_text("unfinished")
    copy.lock.touch()
    one.publish("a")
    assert tree(fleet.remote.root) == JOB


def test_only_what_is_new_is_published(fleet: Fleet, plane: ControlPlane) -> None:
    one = fleet.container("one")
    engine = Engine(one.make("a"))
    engine.window()
    one.publish("a")
    before = len(plane.requests_of("VolumePutFiles2"))
    one.publish("a")
    two = fleet.container("two")
    engine = Engine(two.make("a"))
    two.publish("a")
    assert len(plane.requests_of("VolumePutFiles2")) == before
    engine.window()
    two.publish("a")
    sent = plane.requests_of("VolumePutFiles2")[before:]
    assert {file.path for request in sent for file in request.files} == {
        "/jobs/a/fragments/00001.m4s",
        "/jobs/a/checkpoint.safetensors",
    }


def test_a_replaced_file_is_new_though_it_looks_the_same(fleet: Fleet) -> None:
    one = fleet.container("one")
    copy = one.make("a")
    for content in ("old", "mid", "new"):  # a third file may get the number of the first
        _replace(copy.fragment(0), content)
        os.utime(copy.fragment(0), (1000, 1000))
        if content != "mid":
            one.publish("a")
    assert fleet.remote.fragment(0).read_text() == "new"


def test_a_fresh_copy_has_nothing_of_the_one_before(fleet: Fleet) -> None:
    one = fleet.container("one")
    engine = Engine(one.make("a"))
    engine.window()
    one.publish("a")
    engine.window()
    assert tree(one.make("a").root) == tree(fleet.remote.root)
    assert fleet.remote.checkpoint.read_text() == "1"


def test_publishing_changes_nothing_in_the_copy(fleet: Fleet) -> None:
    one = fleet.container("one")
    copy = one.make("a")
    engine = Engine(copy)
    engine.window()
    engine.video()
    before = {path: path.stat().st_ino for path in copy.root.rglob("*")}
    for _ in range(2):
        one.publish("a")
    assert {path: path.stat().st_ino for path in copy.root.rglob("*")} == before


def test_a_removed_copy_is_gone_and_publishes_nothing(fleet: Fleet) -> None:
    one = fleet.container("one")
    Engine(one.make("a")).window()
    for _ in range(2):
        one.remove("a")
        one.publish("a")
    assert tree(fleet.disk("one")) == {}
    assert tree(fleet.remote.root) == JOB


def test_publishing_has_as_many_moments_as_are_tried_below(fleet: Fleet) -> None:
    moments = Moments()
    one = fleet.container("one", moments)
    Engine(one.make("a")).window()
    moments.passed = 0
    one.publish("a")
    assert moments.passed == len(PUBLISHING)
    moments.passed = 0
    fleet.container("two", moments).make("a")
    assert moments.passed == len(MAKING)


@pytest.mark.parametrize("moment", PUBLISHING)
def test_a_publishing_that_is_killed_leaves_a_job_that_goes_on(fleet: Fleet, moment: int) -> None:
    moments = Moments()
    one = fleet.container("one", moments)
    engine = Engine(one.make("a"))
    for _ in range(2):
        engine.window()
        one.publish("a")
    engine.window()
    moments.arm(kill, at=moment)
    with pytest.raises(Killed):
        one.publish("a")
    require_sound(fleet.remote)
    copy = fleet.container("two").make("a")
    require_sound(copy)
    assert int(copy.checkpoint.read_text()) >= 2
    one.publish("a")
    assert fleet.remote.checkpoint.read_text() == "3"


@pytest.mark.parametrize("rpc", ["VolumePutFiles2", "VolumeGetFile2", "VolumeListFiles2"])
def test_after_an_outage_everything_goes_on(fleet: Fleet, plane: ControlPlane, rpc: str) -> None:
    one = fleet.container("one")
    engine = Engine(one.make("a"))
    engine.window()
    plane.fail(rpc, Status.RESOURCE_EXHAUSTED, times=3 if rpc == "VolumeListFiles2" else 1)
    with pytest.raises(StoreBusy):
        one.publish("a")
        fleet.container("two").make("a")
    one.publish("a")
    assert fleet.container("two").make("a").checkpoint.read_text() == "1"


@pytest.mark.parametrize("moment", MAKING)
def test_a_copy_is_made_whole_or_not_at_all(fleet: Fleet, moment: int) -> None:
    one, moments = fleet.container("one"), Moments()
    Engine(one.make("a")).window()
    one.publish("a")
    two = fleet.container("two", moments)
    moments.arm(kill, at=moment)
    with pytest.raises(Killed):
        two.make("a")
    assert tree(fleet.disk("two")) == {}
    moments.disarm()
    assert tree(two.make("a").root) == tree(fleet.remote.root)


@pytest.mark.parametrize("moment", MAKING)
def test_a_copy_is_sound_though_another_attempt_publishes_meanwhile(
    fleet: Fleet, moment: int
) -> None:
    one, moments = fleet.container("one"), Moments()
    engine = Engine(one.make("a"))

    def publish_a_window() -> None:
        engine.window()
        one.publish("a")

    publish_a_window()
    moments.arm(publish_a_window, at=moment)
    require_sound(fleet.container("two", moments).make("a"))


@pytest.mark.parametrize("moment", MAKING)
def test_a_job_that_is_erased_meanwhile_has_expired(fleet: Fleet, moment: int) -> None:
    one, moments = fleet.container("one"), Moments()
    Engine(one.make("a")).window()
    one.publish("a")
    moments.arm(fleet.remote.remove, at=moment)
    two = fleet.container("two", moments)
    try:
        copy = two.make("a")
    except JobExpired:
        assert tree(fleet.disk("two")) == {}
    else:
        assert set(tree(copy.root)) >= set(JOB)
        require_sound(copy)


def test_the_engine_may_go_on_at_every_moment_of_publishing(fleet: Fleet) -> None:
    moments = Moments()
    one = fleet.container("one", moments)
    engine = Engine(one.make("a"))

    def go_on() -> None:
        require_sound(fleet.remote)
        engine.window()

    engine.window()
    moments.arm(go_on)
    for _ in range(4):
        one.publish("a")
    moments.disarm()
    one.publish("a")
    require_sound(fleet.remote)
    assert int(fleet.remote.checkpoint.read_text()) >= 16


class Counting:
    """Stands in for a Volume where hundreds of uploads are to be seen: windows by their names."""

    def __init__(self) -> None:
        self.fragments: set[str] = set()
        self.counted = 0  # by the last checkpoint
        self.uploads = 0

    @contextmanager
    def batch_upload(self, force: bool) -> Iterator["Counting"]:
        yield self
        assert self.counted <= len(self.fragments)
        self.uploads += 1

    def put_file(self, path: Path, remote: str) -> None:
        if remote.endswith("checkpoint.safetensors"):
            self.counted = int(path.read_text())
        else:
            self.fragments.add(remote)


def test_an_engine_that_never_waits_is_published_soundly(tmp_path: Path) -> None:
    """Files are replaced while they are taken; a link to one may fail at that very moment."""
    volume = Counting()
    one = JobCopies(VolumeFiles(cast(modal.Volume, volume)), tmp_path)
    copy, enough = JobFolder(tmp_path / "jobs" / "a"), threading.Event()
    (copy.root / "fragments").mkdir(parents=True)
    engine = Engine(copy)

    def work() -> None:
        while not enough.is_set():
            engine.window()
            for _ in range(20):
                _replace(copy.checkpoint, copy.checkpoint.read_text())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while volume.uploads < UPLOADS:
            one.publish("a")
    finally:
        enough.set()
        thread.join()
    assert volume.counted > 0


def test_two_attempts_at_once_leave_a_sound_job_and_both_videos(fleet: Fleet) -> None:
    moments = Moments()
    late, current = fleet.container("late"), fleet.container("current", moments)
    engines = Engine(late.make("a"), "late"), Engine(current.make("a"), "current")
    for engine in engines:
        engine.window()
    late.publish("a")

    def publish_late() -> None:
        engines[0].window()
        late.publish("a")
        require_sound(fleet.remote)

    moments.arm(publish_late)
    for _ in range(2):
        engines[1].window()
        current.publish("a")
    names = [engine.video() for engine in engines]
    moments.disarm()
    for copies in (current, late):
        copies.publish("a")
    require_sound(fleet.remote)
    assert [(fleet.remote.root / name).read_text() for name in names] == [
        "video of late",
        "video of current",
    ]


def test_publishing_at_once_sends_everything_once(fleet: Fleet) -> None:
    """A thread publishes during the run, and the attempt itself at its end."""
    moments = Moments()
    one = fleet.container("one", moments)
    Engine(one.make("a")).window()
    moments.passed = 0
    threads = [threading.Thread(target=one.publish, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moments.passed == len(PUBLISHING)
    assert fleet.remote.checkpoint.read_text() == "1"
