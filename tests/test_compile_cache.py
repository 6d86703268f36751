"""Where compiled kernels are kept, and that a packed folder is the same one elsewhere."""

import io
import os
import tarfile
from pathlib import Path

import pytest
import torch

from infinitetalk import __version__
from infinitetalk.compile_cache import VARIABLES, cache_name, pack, unpack, use_cache
from tests.jobs.volumes import tree

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("no_kernel_folders")


def fill(folder: Path) -> None:
    for name, content in (("inductor/aa/one.py", "1"), ("triton/bb/two.so", "2"), ("three", "3")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_machines_of_another_kind_or_version_share_nothing() -> None:
    name = cache_name(CPU)
    assert name.startswith("cpu-")
    for part in (torch.backends.cpu.get_cpu_capability(), torch.__version__, __version__):
        assert part.lower().replace("+", "-").replace(" ", "-") in name
    assert Path(name).name == name == name.strip("-.")


def test_compilers_write_into_the_folder_of_this_kind(tmp_path: Path) -> None:
    folder = use_cache(tmp_path, CPU)
    assert folder == tmp_path / "compiled" / cache_name(CPU)
    assert folder.is_dir()
    places = {Path(os.environ[variable]) for variable in VARIABLES}
    assert places == {folder / "inductor", folder / "triton"}
    assert use_cache(tmp_path, CPU) == folder


def test_a_place_that_the_user_chose_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    folder = use_cache(tmp_path, CPU)
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder / "inductor")


def test_a_packed_folder_is_the_same_where_it_is_unpacked(tmp_path: Path) -> None:
    folder, archive, target = tmp_path / "a", tmp_path / "a.tar.gz", tmp_path / "deep/b"
    fill(folder)
    assert pack(folder, archive) == 3
    unpack(archive, target)
    assert tree(target) == tree(folder) != {}


def test_unpacking_replaces_and_adds(tmp_path: Path) -> None:
    folder, archive, target = tmp_path / "a", tmp_path / "a.tar.gz", tmp_path / "b"
    fill(folder)
    pack(folder, archive)
    target.mkdir()
    (target / "three").write_text("old")
    (target / "four").write_text("own")
    unpack(archive, target)
    assert tree(target) == {**tree(folder), "four": "own"}


def test_an_empty_folder_packs_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert pack(tmp_path / "a", tmp_path / "a.tar.gz") == 0
    unpack(tmp_path / "a.tar.gz", tmp_path / "b")
    assert tree(tmp_path / "b") == {}


def test_an_archive_reaches_nothing_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(archive, tmp_path / "inside")
    assert not (tmp_path / "outside").exists()


def test_a_folder_that_cannot_be_written_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    use_cache(tmp_path / "file", CPU)
    assert not VARIABLES.keys() & os.environ.keys()
    assert "compiled kernels are not kept" in caplog.text
