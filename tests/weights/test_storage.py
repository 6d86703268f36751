"""The disk of the weights folder."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from infinitetalk.errors import StorageFull, WeightsBusy
from infinitetalk.weights.storage import (
    exclusively,
    free_bytes,
    require_room,
    room_or_storage_full,
    write_durably,
)


@pytest.mark.parametrize(("size", "free"), [(100, 100), (0, 0), (-5, 0)])
def test_what_fits_may_begin(size: int, free: int, tmp_path: Path) -> None:
    require_room(tmp_path, size, "It", lambda _: free)


def test_what_does_not_fit_is_refused_with_both_figures(tmp_path: Path) -> None:
    sentence = r"^Preparing it takes 31\.2 GB more; the disk has 12\.0 GB free\.$"
    with pytest.raises(StorageFull, match=sentence):
        require_room(tmp_path, 31_200_000_000, "Preparing it", lambda _: 12_000_000_000)


def test_room_is_that_of_the_disk(tmp_path: Path) -> None:
    require_room(tmp_path, 1, "It")
    with pytest.raises(StorageFull):
        require_room(tmp_path, 2 * free_bytes(tmp_path), "It")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_typed(number: int) -> None:
    with pytest.raises(StorageFull), room_or_storage_full():
        raise OSError(number, "no room")


def test_another_fault_of_the_disk_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="broken"), room_or_storage_full():
        raise OSError(errno.EIO, "broken")


def test_the_second_is_refused_until_the_first_is_through(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusively(lock), pytest.raises(WeightsBusy), exclusively(lock):
        pass
    with exclusively(lock):
        pass


HOLDER = """
import os, signal, sys
from pathlib import Path
from infinitetalk.weights.storage import exclusively
with exclusively(Path(sys.argv[1])):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL if sys.stdin.readline() else signal.SIGTERM)
"""


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WeightsBusy), exclusively(lock):
            pass
        holder.communicate("die\n")
    assert holder.returncode == -9
    with exclusively(lock):
        pass


def test_a_small_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_durably(path, "old")
    (tmp_path / "note.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        write_durably(path, "new")
    assert path.read_text() == "old"
    (tmp_path / "note.new").unlink()
    write_durably(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]
