"""Finished windows on a gateway's disk: the Volume is asked for what is new, and once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.modal_windows import WindowCache
from infinitetalk.jobs.model import Job
from tests.jobs.records import STEP, VIDEO, a_job
from tests.jobs.volumes import Volumes
from tests.modal_control_plane.plane import ControlPlane


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


class Site:
    """A job's fragments on a Volume, and the cache of a gateway."""

    def __init__(self, plane: ControlPlane, disk: Path) -> None:
        self._plane = plane
        volume, remote = Volumes(plane).make()
        self.fragments = remote / "jobs" / "a" / "fragments"
        self.fragments.mkdir(parents=True)
        self.cache = WindowCache(VolumeFiles(volume), disk, limit_bytes=100)

    def put(self, *names: str) -> None:
        for name in names:
            (self.fragments / name).write_text(name)

    @property
    def requests(self) -> int:
        """To the Volume, listings and files."""
        names = ("VolumeListFiles2", "VolumeGetFile2")
        return sum(len(self._plane.requests_of(name)) for name in names)


@pytest.fixture
def site(plane: ControlPlane, tmp_path: Path) -> Site:
    return Site(plane, tmp_path / "windows")


def at(window: int) -> Job:
    """The job while its engine is at this window, from 1."""
    return a_job(id="a", progress=replace(STEP, window=window))


def test_asking_again_costs_no_request_before_the_next_window(site: Site) -> None:
    site.put("sound.m4a", "00000.m4s")
    before = site.requests
    assert [site.cache.count(at(1)) for _ in range(3)] == [0, 0, 0]
    assert site.requests == before
    assert [site.cache.count(at(2)) for _ in range(3)] == [1, 1, 1]
    assert site.requests == before + 1


def test_a_window_that_is_told_before_it_is_shared_comes_later(site: Site) -> None:
    site.put("sound.m4a", "00000.m4s")
    assert site.cache.count(at(3)) == 1
    site.put("00001.m4s")
    assert site.cache.count(at(3)) == 2


def test_all_windows_of_a_finished_job_count(site: Site) -> None:
    site.put("sound.m4a", *(f"{number:05d}.m4s" for number in range(VIDEO.windows)))
    assert site.cache.count(a_job(id="a", result=VIDEO)) == VIDEO.windows


def test_a_file_is_fetched_once(site: Site) -> None:
    site.put("00000.m4s")
    path = site.cache.get("a", "00000.m4s")
    before = site.requests
    assert site.cache.get("a", "00000.m4s") == path
    assert (path.read_text(), site.requests) == ("00000.m4s", before)


def test_what_was_watched_longest_ago_makes_room(site: Site) -> None:
    names = [f"{number:05d}.m4s" for number in range(20)]
    site.put(*names)
    paths = [site.cache.get("a", name) for name in names]
    assert [path.exists() for path in paths] == [False] * 9 + [True] * 11
