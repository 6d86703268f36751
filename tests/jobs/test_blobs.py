"""Files of jobs in a folder: the contract, and what killed processes leave behind."""

import os
from pathlib import Path

import pytest

from infinitetalk.jobs.blobs import DirectoryBlobStore
from tests.jobs.contract import BlobStoreContract, staged
from tests.jobs.records import DAY_S, NOW


class TestDirectoryBlobStore(BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryBlobStore:
        return DirectoryBlobStore(tmp_path)


def test_files_are_there_after_a_restart(tmp_path: Path, blobs: DirectoryBlobStore) -> None:
    with blobs.staging() as folder:
        blobs.adopt(staged(folder), "a")
    assert list(DirectoryBlobStore(tmp_path).ids()) == ["a"]


def test_staged_folders_of_killed_processes_are_found_by_their_age(
    tmp_path: Path, blobs: DirectoryBlobStore
) -> None:
    for name, age_s in (("old", DAY_S + 1), ("young", DAY_S - 1)):
        folder = tmp_path / "staging" / name
        folder.mkdir()
        os.utime(folder, (NOW - age_s, NOW - age_s))
    blobs.clean(NOW, DAY_S)
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["young"]


def test_a_folder_from_the_future_ages_from_now_on(
    tmp_path: Path, blobs: DirectoryBlobStore
) -> None:
    """Its clock was a year ahead and has been turned back."""
    folder = blobs.folder("a").root
    folder.mkdir()
    os.utime(folder, (NOW + 365 * DAY_S, NOW + 365 * DAY_S))
    assert blobs.age_s("a", NOW) == 0.0
    assert blobs.age_s("a", NOW + DAY_S) == DAY_S


def test_a_job_without_files_has_no_age(blobs: DirectoryBlobStore) -> None:
    assert blobs.age_s("a", NOW) == 0.0
