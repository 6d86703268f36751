"""Hashes of files: read once for every state of a file."""

import hashlib
import os
from pathlib import Path

import pytest

from infinitetalk.errors import Canceled
from infinitetalk.weights.file_hashes import BLOCK, FileHashes

LONG_AGO, NOW = 1_000_000, 2_000_000.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes" / "hashes.json"


@pytest.fixture(params=["beside", "elsewhere"])
def file(request: pytest.FixtureRequest, place: Path) -> Path:
    """A file that has been at rest for long."""
    folder = place.parent if request.param == "beside" else place.parents[1]
    path = folder / "weights.bin"
    write(path, b"one", LONG_AGO)
    return path


def write(path: Path, content: bytes, when: int) -> None:
    path.write_bytes(content)
    os.utime(path, (when, when))


def hash_of(path: Path, place: Path) -> str:
    """By a new process, as it were."""
    return FileHashes(place, lambda: NOW).sha256(path, lambda _: None)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_at_rest_is_read_once(file: Path, place: Path) -> None:
    assert hash_of(file, place) == sha256(b"one")
    write(file, b"two", LONG_AGO)  # which nobody can see without reading
    assert hash_of(file, place) == sha256(b"one")


def test_a_file_that_was_modified_is_read_again(file: Path, place: Path) -> None:
    hash_of(file, place)
    write(file, b"two", LONG_AGO + 1)
    assert hash_of(file, place) == sha256(b"two")


def test_a_file_of_another_size_is_read_again_though_the_time_was_kept(
    file: Path, place: Path
) -> None:
    hash_of(file, place)
    write(file, b"on", LONG_AGO)
    assert hash_of(file, place) == sha256(b"on")


def test_a_file_modified_just_now_is_not_noted(file: Path, place: Path) -> None:
    write(file, b"one", int(NOW))
    hash_of(file, place)
    write(file, b"two", int(NOW))
    assert hash_of(file, place) == sha256(b"two")


@pytest.mark.parametrize(
    "notes", ["", "[]", '{"weights.bin": []}', '{"weights.bin": ["x", 1000000]}']
)
def test_notes_that_make_no_sense_are_no_notes(file: Path, place: Path, notes: str) -> None:
    place.write_text(notes)
    assert hash_of(file, place) == sha256(b"one")


def test_all_bytes_are_accounted_for_read_or_noted(file: Path, place: Path) -> None:
    content = bytes(BLOCK + 5)
    write(file, content, LONG_AGO)
    for expected in ([BLOCK, 5], [BLOCK + 5]):
        counts: list[int] = []
        FileHashes(place, lambda: NOW).sha256(file, counts.append)
        assert counts == expected


def test_reading_can_be_stopped_and_notes_nothing_then(file: Path, place: Path) -> None:
    def stop(_: int) -> None:
        raise Canceled("Stop.")

    with pytest.raises(Canceled):
        FileHashes(place, lambda: NOW).sha256(file, stop)
    assert not place.exists()


def test_a_file_that_is_written_meanwhile_is_not_noted(file: Path, place: Path) -> None:
    def write_meanwhile(_: int) -> None:
        write(file, b"two", LONG_AGO + 1)

    FileHashes(place, lambda: NOW).sha256(file, write_meanwhile)
    assert hash_of(file, place) == sha256(b"two")
