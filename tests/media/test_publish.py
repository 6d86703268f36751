import os
from pathlib import Path

import pytest

from infinitetalk.errors import StorageFull
from infinitetalk.media.publish import publishing


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with publishing(target) as part:
        part.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), publishing(target) as part:
        part.write_bytes(b"half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert target.read_bytes() == b"old"


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "result.part").write_bytes(b"from a process that was killed")
    with publishing(tmp_path / "result") as part:
        assert not part.exists()
        part.write_bytes(b"new")
    assert (tmp_path / "result").read_bytes() == b"new"


def test_a_full_disk_is_storage_full(tmp_path: Path) -> None:
    with pytest.raises(StorageFull), publishing(tmp_path / "result"):
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(full, b"x")
        finally:
            os.close(full)
