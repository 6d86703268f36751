from pathlib import Path

import pytest

from infinitetalk import __version__
from infinitetalk.compile_cache import keep_kernels, kernels_folder


def test_every_kind_of_gpu_and_version_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = kernels_folder(tmp_path, "NVIDIA H200 / 141GB", "2.11.0+cu130")
    assert folder == tmp_path / f"compiled/NVIDIA_H200_141GB-2.11.0+cu130-{__version__}"
    assert folder != kernels_folder(tmp_path, "NVIDIA L40S", "2.11.0+cu130")
    assert folder != kernels_folder(tmp_path, "NVIDIA H200 / 141GB", "2.13.0+cu130")


def test_both_compilers_keep_theirs_there(tmp_path: Path) -> None:
    environment = {"TRITON_CACHE_DIR": "/tmp/elsewhere", "HOME": "/root"}
    keep_kernels(tmp_path / "kept", environment)
    assert environment == {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kept" / "inductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "kept" / "triton"),
        "HOME": "/root",
    }
    assert all(Path(path).is_dir() for path in list(environment.values())[:2])


def test_a_folder_that_cannot_be_written_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    environment: dict[str, str] = {}
    keep_kernels(tmp_path / "file" / "kept", environment)
    assert environment == {}
    assert "compiled kernels are not kept" in caplog.text
