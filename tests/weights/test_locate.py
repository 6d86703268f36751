import shutil
from pathlib import Path

import pytest

from infinitetalk.errors import WeightsMissing
from infinitetalk.weights.locate import locate_weights
from infinitetalk.weights.prepared import MANIFEST, read_manifest, write_manifest


def test_a_synthetic_model_is_written_on_first_use_and_found_on_the_second(tmp_path: Path) -> None:
    folder = locate_weights("tiny", tmp_path / "weights")
    written = (folder / MANIFEST).stat().st_mtime_ns
    assert locate_weights("tiny", tmp_path / "weights") == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == written
    assert read_manifest(folder).preset == "tiny"


@pytest.mark.parametrize("preset", ["fast", "standard", "best"])
def test_weights_nobody_prepared_are_missing(tmp_path: Path, preset: str) -> None:
    with pytest.raises(WeightsMissing, match=f"{preset} are not prepared"):
        locate_weights(preset, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_model_is_found_by_the_preset_in_its_manifest(
    tiny_folder: Path, tmp_path: Path
) -> None:
    for name, preset in (("one", "best"), ("two", "standard")):
        folder = tmp_path / name
        shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns(MANIFEST))
        write_manifest(folder, preset, "bfloat16", 2, "test")
    assert locate_weights("standard", tmp_path) == tmp_path / "two"
