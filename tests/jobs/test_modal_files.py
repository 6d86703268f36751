"""Files on a Volume: the real client of Modal against a control plane on loopback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import modal
import pytest
from aiohttp import ClientPayloadError
from grpclib import Status
from grpclib.exceptions import StreamTerminatedError
from modal import exception

from infinitetalk.errors import StorageFull, StoreBusy
from infinitetalk.jobs.modal_files import TRIES, Entry, VolumeFiles
from tests.jobs.volumes import Volumes
from tests.modal_control_plane.plane import ControlPlane

BLOCK_BYTES = 8 * 2**20
LARGE_BYTES = 96 * 2**20
GROWTH_BYTES = 64 * 2**20


@pytest.fixture
def held(volumes: Volumes) -> tuple[modal.Volume, Path]:
    return volumes.make()


@pytest.fixture
def files(held: tuple[modal.Volume, Path]) -> VolumeFiles:
    return VolumeFiles(held[0])


def a_file(path: Path, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    return path


CONTENTS = {
    "empty": b"",
    "a byte": b"x",
    "a block": b"x" * BLOCK_BYTES,
    "a block and a byte": b"x" * BLOCK_BYTES + b"y",
    "ends in zeros": b"x" + b"\0" * (BLOCK_BYTES + 5),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_comes_back_as_it_was(tmp_path: Path, files: VolumeFiles, content: bytes) -> None:
    files.put({"/a/b": a_file(tmp_path / "sent", content)})
    files.fetch({"/a/b": tmp_path / "new folder" / "back"})
    assert (tmp_path / "new folder" / "back").read_bytes() == content


def test_many_files_go_at_once(tmp_path: Path, files: VolumeFiles, plane: ControlPlane) -> None:
    sent = {f"/many/{n}": a_file(tmp_path / f"{n}", str(n).encode()) for n in range(30)}
    before = len(plane.requests_of("VolumePutFiles2"))
    files.put(sent)
    assert len(plane.requests_of("VolumePutFiles2")) - before == 2  # what is missing, and the end
    files.fetch({remote: path.with_suffix(".back") for remote, path in sent.items()})
    assert [(tmp_path / f"{n}.back").read_text() for n in range(30)] == [str(n) for n in range(30)]


def test_a_file_is_replaced(tmp_path: Path, files: VolumeFiles) -> None:
    for content in (b"first, and longer", b"second"):
        files.put({"/a": a_file(tmp_path / "a", content)})
    files.fetch({"/a": tmp_path / "back"})
    assert (tmp_path / "back").read_bytes() == b"second"


def test_nothing_is_asked_when_there_is_nothing_to_do(
    files: VolumeFiles, plane: ControlPlane
) -> None:
    before = len(plane.requests)
    files.put({})
    files.fetch({})
    assert len(plane.requests) == before


def test_a_missing_file_is_told_and_nothing_half_is_left(
    tmp_path: Path, files: VolumeFiles
) -> None:
    files.put({"/there": a_file(tmp_path / "there")})
    with pytest.raises(FileNotFoundError):
        files.fetch({"/missing": tmp_path / "1", "/there": tmp_path / "2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "there"]


def test_entries_say_where_how_large_and_since_when(
    tmp_path: Path, files: VolumeFiles, held: tuple[modal.Volume, Path]
) -> None:
    files.put({"/a/b/c": a_file(tmp_path / "c", b"12345"), "/other/d": tmp_path / "c"})
    os.utime(held[1] / "a/b/c", (1000, 1000))
    folder, file = files.entries("/a", recursive=True)
    assert file == Entry("/a/b/c", is_file=True, size_bytes=5, modified_at=1000.0)
    assert (folder.path, folder.is_file, folder.size_bytes) == ("/a/b", False, 0)
    assert [entry.path for entry in files.entries("/a")] == ["/a/b"]


def test_a_missing_folder_has_no_entries(files: VolumeFiles) -> None:
    assert files.entries("/missing", recursive=True) == []


def test_a_folder_is_removed_with_all_in_it_and_may_be_gone(
    tmp_path: Path, files: VolumeFiles
) -> None:
    files.put({name: a_file(tmp_path / "x") for name in ("/a/b/c", "/a/d", "/e")})
    for _ in range(2):
        files.remove("/a")
    assert [entry.path for entry in files.entries("/")] == ["/e"]


CALLS: dict[str, Callable[[VolumeFiles, Path], object]] = {
    "VolumePutFiles2": lambda files, path: files.put({"/a": path}),
    "VolumeGetFile2": lambda files, path: files.fetch({"/a": path.with_name("back")}),
    "VolumeListFiles2": lambda files, _: files.entries("/"),
    "VolumeRemoveFile2": lambda files, _: files.remove("/a"),
}


@pytest.mark.parametrize("status", [Status.RESOURCE_EXHAUSTED, Status.ABORTED])
@pytest.mark.parametrize("rpc", CALLS)
def test_what_cannot_be_reached_may_be_tried_again(
    tmp_path: Path, files: VolumeFiles, plane: ControlPlane, rpc: str, status: Status
) -> None:
    path = a_file(tmp_path / "a")
    files.put({"/a": path})
    plane.fail(rpc, status, times=TRIES if rpc == "VolumeListFiles2" else 1)
    with pytest.raises(StoreBusy) as caught:
        CALLS[rpc](files, path)
    assert caught.value.retryable
    assert str(tmp_path) not in caught.value.message
    assert not (tmp_path / "back.part").exists()


def test_a_listing_is_repeated(files: VolumeFiles, plane: ControlPlane) -> None:
    plane.fail("VolumeListFiles2", Status.UNAVAILABLE, times=TRIES - 1)
    assert files.entries("/") == []


class Failing:
    """Stands in for a Volume that cannot be reached."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def remove_file(self, path: str, recursive: bool) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        exception.ConnectionError("no server"),
        exception.ServiceError("unavailable"),
        exception.InternalError("broken"),
        exception.TimeoutError("too slow"),
        exception.ExecutionError("a block was refused"),
        StreamTerminatedError("connection lost"),
        ClientPayloadError("half a block"),
        ConnectionResetError("connection lost"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_to_lose_the_connection_may_be_tried_again(error: Exception) -> None:
    with pytest.raises(StoreBusy):
        VolumeFiles(cast(modal.Volume, Failing(error))).remove("/a")


def test_a_client_that_was_closed_may_be_tried_again() -> None:
    with ControlPlane() as plane:
        files = VolumeFiles(Volumes(plane).make()[0])
    with pytest.raises(StoreBusy):
        files.entries("/")


@pytest.mark.parametrize("status", [Status.UNAUTHENTICATED, Status.INVALID_ARGUMENT])
def test_a_mistake_of_ours_is_not_called_busy(
    files: VolumeFiles, plane: ControlPlane, status: Status
) -> None:
    plane.fail("VolumeListFiles2", status)
    with pytest.raises(modal.Error):
        files.entries("/")


def test_a_full_disk_is_told(tmp_path: Path, files: VolumeFiles) -> None:
    files.put({"/a": a_file(tmp_path / "a")})
    (tmp_path / "back.part").symlink_to("/dev/full")
    with pytest.raises(StorageFull):
        files.fetch({"/a": tmp_path / "back"})
    assert not (tmp_path / "back").exists()


TRANSFER = """
import os, resource, sys
from pathlib import Path
os.cpu_count = lambda: 2  # Modal's client holds a block or two for every core that it sees
import modal
from infinitetalk.jobs.modal_files import VolumeFiles

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

files = VolumeFiles(modal.Volume.from_name("large", create_if_missing=True, version=2))
small, large = map(Path, sys.argv[1:])
for path in (small, large):
    before = peak_bytes()
    files.put({"/" + path.name: path})
    files.fetch({"/" + path.name: path.with_name("back")})
print(peak_bytes() - before)
"""


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, plane: ControlPlane) -> None:
    small, large = a_file(tmp_path / "small"), tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(LARGE_BYTES // 2**20):
            file.write(os.urandom(2**20))
    growth = subprocess.run(
        [sys.executable, "-c", TRANSFER, small, large],
        env={**os.environ, **plane.environment},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert int(growth) < GROWTH_BYTES
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
