"""Finished videos on a container's disk."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import cast

import modal
import pytest
from grpclib import Status

from infinitetalk.errors import JobExpired, StoreBusy, StoreCorrupt
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.modal_results import ResultCache
from infinitetalk.jobs.model import Video
from tests.jobs.volumes import Moments, Volumes, Watched
from tests.modal_control_plane.plane import ControlPlane

CALLERS = 20
SIZE_BYTES = 1000


class Site:
    """Videos on a Volume, and a cache that holds two of them."""

    def __init__(self, volume: modal.Volume, remote: Path, local: Path) -> None:
        self.volume = volume
        self._remote = remote
        self.local = local
        self.cache = ResultCache(VolumeFiles(volume), local, limit_bytes=2 * SIZE_BYTES)

    def put(self, name: str, content: bytes | None = None) -> Video:
        """A video on the Volume, of the named content unless another is given."""
        video = name.encode().ljust(SIZE_BYTES, b".")
        (self._remote / name).write_bytes(video if content is None else content)
        return Video(hashlib.sha256(video).hexdigest(), SIZE_BYTES, frames=25, windows=1)

    def remove(self, name: str) -> None:
        (self._remote / name).unlink()

    def get(self, name: str, video: Video) -> Path:
        return self.cache.get(name, video, f"/{name}")

    @property
    def held(self) -> list[str]:
        """Jobs whose videos are on this disk; nothing else is."""
        return sorted(path.name.split(".")[0] for path in self.local.iterdir())


@pytest.fixture
def site(volumes: Volumes, tmp_path: Path) -> Site:
    return Site(*volumes.make(), tmp_path / "results")


def test_a_video_is_fetched_and_kept(site: Site) -> None:
    video = site.put("a")
    path = site.get("a", video)
    site.remove("a")
    assert site.get("a", video) == path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == video.sha256


def test_callers_at_once_fetch_a_video_once(site: Site, plane: ControlPlane) -> None:
    video, barrier = site.put("a"), Barrier(CALLERS)
    before = len(plane.requests_of("VolumeGetFile2"))

    def call(_: int) -> Path:
        barrier.wait()
        return site.get("a", video)

    with ThreadPoolExecutor(CALLERS) as callers:
        paths = set(callers.map(call, range(CALLERS)))
    assert len(paths) == 1
    assert len(plane.requests_of("VolumeGetFile2")) - before == 1


def test_what_was_asked_for_longest_ago_makes_room(site: Site) -> None:
    videos = {name: site.put(name) for name in "abc"}
    for name in "abac":
        site.get(name, videos[name])
    assert site.held == ["a", "c"]


def test_a_video_larger_than_the_cache_is_kept_until_the_next(site: Site) -> None:
    small, large = site.put("a"), b"x" * SIZE_BYTES * 5
    site.get("a", small)
    site.put("b", large)
    site.get("b", Video(hashlib.sha256(large).hexdigest(), len(large), frames=25, windows=1))
    assert site.held == ["b"]
    site.get("a", small)
    assert site.held == ["a"]


@pytest.mark.parametrize(
    "content", [b"short", b"", b"x" * SIZE_BYTES], ids=["short", "empty", "other"]
)
def test_another_content_is_no_video_of_the_job(site: Site, content: bytes) -> None:
    video = site.put("a", content)
    with pytest.raises(StoreCorrupt):
        site.get("a", video)
    assert site.held == []
    site.put("a")
    assert site.get("a", video).stat().st_size == SIZE_BYTES


def test_a_broken_transfer_is_repeated(site: Site) -> None:
    video = site.put("a", b"broken")
    moments = Moments()
    moments.arm(lambda: site.put("a"), at=2)  # after the first
    volume = cast(modal.Volume, Watched(site.volume, moments))
    cache = ResultCache(VolumeFiles(volume), site.local, limit_bytes=SIZE_BYTES)
    assert hashlib.sha256(cache.get("a", video, "/a").read_bytes()).hexdigest() == video.sha256


def test_a_copy_that_lost_its_end_is_fetched_again(site: Site) -> None:
    videos = {name: site.put(name) for name in "ba"}
    for name, video in videos.items():
        site.get(name, video).write_bytes(b"short" if name == "a" else b"b".ljust(SIZE_BYTES))
    assert site.get("a", videos["a"]).stat().st_size == SIZE_BYTES
    assert site.held == ["a", "b"]


def test_a_copy_that_vanished_is_fetched_again(site: Site) -> None:
    video = site.put("a")
    site.get("a", video).unlink()
    assert site.get("a", video).stat().st_size == SIZE_BYTES


def test_what_another_process_left_is_not_trusted(site: Site) -> None:
    video = site.put("a")
    site.get("a", video).write_bytes(b"x" * SIZE_BYTES)
    new = ResultCache(VolumeFiles(site.volume), site.local, limit_bytes=SIZE_BYTES)
    path = new.get("a", video, "/a")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == video.sha256


def test_a_video_that_is_gone_has_expired(site: Site) -> None:
    video = site.put("a")
    site.remove("a")
    with pytest.raises(JobExpired):
        site.get("a", video)
    assert site.held == []


def test_after_an_outage_the_video_comes(site: Site, plane: ControlPlane) -> None:
    video = site.put("a")
    plane.fail("VolumeGetFile2", Status.RESOURCE_EXHAUSTED)
    with pytest.raises(StoreBusy):
        site.get("a", video)
    assert site.get("a", video).exists()


def test_another_content_of_the_same_job_is_another_video(site: Site) -> None:
    first = site.put("a")
    path = site.get("a", first)
    other = b"y" * SIZE_BYTES
    site.put("a", other)
    second = replace(first, sha256=hashlib.sha256(other).hexdigest())
    assert site.get("a", second).read_bytes() == other
    assert path.exists()


def test_only_the_videos_of_a_forgotten_job_are_deleted(site: Site) -> None:
    videos = {name: site.put(name) for name in ("a", "ab")}
    for name, video in videos.items():
        site.get(name, video)
    for _ in range(2):
        site.cache.forget("a")
    assert site.held == ["ab"]


def test_who_reads_a_video_reads_on_when_it_makes_room(site: Site) -> None:
    videos = {name: site.put(name) for name in "abc"}
    with site.get("a", videos["a"]).open("rb") as file:
        for name in "bc":
            site.get(name, videos[name])
        assert site.held == ["b", "c"]
        assert len(file.read()) == SIZE_BYTES
