"""What one machine compiled, on the next one of its kind."""

from pathlib import Path
from typing import cast

import modal
import pytest
import torch
from modal.exception import ServiceError

from infinitetalk.compile_cache import cache_name, use_cache
from infinitetalk.fleet.compiled import restore_compiled, save_compiled
from tests.jobs.fleet_containers import Containers
from tests.jobs.volumes import Moments, Watched, tree
from tests.modal_control_plane.plane import ControlPlane

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("no_kernel_folders")


@pytest.fixture
def caches(containers: Containers) -> modal.Volume:
    return containers.volume("caches")


def compile_in(home: Path) -> Path:
    folder = use_cache(home, CPU)
    (folder / "inductor/aa").mkdir()
    (folder / "inductor/aa/kernel.py").write_text("a kernel")
    return folder


def test_what_was_compiled_once_is_there_on_every_machine_of_the_kind(
    plane: ControlPlane, caches: modal.Volume, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made = compile_in(first)
    assert save_compiled(caches, first, CPU) == (f"{cache_name(CPU)}.tar.gz", 1)
    assert restore_compiled(caches, second, CPU)
    assert tree(use_cache(second, CPU)) == tree(made) == {"inductor/aa/kernel.py": "a kernel"}
    on_volume = [path.name for path in plane.volumes.folder("caches").iterdir()]
    assert on_volume == [f"{cache_name(CPU)}.tar.gz"]
    assert not list(tmp_path.rglob("*.tar.gz")), "local copies are gone"


def test_a_machine_for_which_nothing_was_compiled_does_it_itself(
    caches: modal.Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not restore_compiled(caches, tmp_path / "home", CPU)
    assert use_cache(tmp_path / "home", CPU).is_dir()
    assert "nothing was compiled for this machine yet" in caplog.text


def test_a_volume_out_of_reach_keeps_no_engine_from_starting(
    caches: modal.Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ServiceError("The platform is busy.")

    moments = Moments()
    moments.arm(fail)
    unreachable = cast(modal.Volume, Watched(caches, moments))
    assert not restore_compiled(unreachable, tmp_path / "home", CPU)
    assert "could not be fetched" in caplog.text
