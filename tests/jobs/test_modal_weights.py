"""Whether weights are on a Volume, for a process that does not mount it."""

from pathlib import Path

import pytest

from infinitetalk.errors import WeightsMissing
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.modal_weights import AGAIN_S, WeightsOnVolume
from tests.jobs.records import FakeClock
from tests.jobs.volumes import Volumes, tree
from tests.modal_control_plane.plane import ControlPlane


class Weights:
    """A Volume of prepared models, and a process that asks for them."""

    def __init__(self, volumes: Volumes, copy: Path, clock: FakeClock) -> None:
        volume, self._folder = volumes.make()
        self._volumes = volumes
        self.copy = copy
        weights = WeightsOnVolume(VolumeFiles(volume), copy, self._check, clock)
        self.require = weights.require

    def prepare(self) -> None:
        for name, content in (("model.safetensors", "large"), ("manifest.json", "small")):
            path = self._folder / "standard-bf16-1" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        (self._folder / "manifest.json").write_text("of no model")

    def remove(self) -> None:
        (self._folder / "standard-bf16-1/manifest.json").unlink()

    def looks(self) -> int:
        """How often Modal was asked for anything."""
        return len(self._volumes.plane.requests)

    @staticmethod
    def _check(folder: Path) -> None:
        if not (folder / "standard-bf16-1/manifest.json").exists():
            raise WeightsMissing("They are not there.")


@pytest.fixture
def weights(plane: ControlPlane, tmp_path: Path, clock: FakeClock) -> Weights:
    return Weights(Volumes(plane), tmp_path / "copy", clock)


def test_only_the_manifests_are_fetched(weights: Weights) -> None:
    weights.prepare()
    weights.require()
    assert tree(weights.copy) == {"standard-bf16-1/manifest.json": "small"}


def test_weights_that_were_found_are_not_looked_for_again(weights: Weights) -> None:
    weights.prepare()
    weights.require()
    weights.remove()
    before = weights.looks()
    weights.require()
    assert weights.looks() == before


def test_missing_weights_are_looked_for_again_after_a_while(
    weights: Weights, clock: FakeClock
) -> None:
    with pytest.raises(WeightsMissing):
        weights.require()
    weights.prepare()
    before = weights.looks()
    clock.now += AGAIN_S - 1
    with pytest.raises(WeightsMissing):
        weights.require()
    assert weights.looks() == before
    clock.now += 2
    weights.require()


def test_an_empty_volume_has_no_weights(weights: Weights) -> None:
    with pytest.raises(WeightsMissing, match="not there"):
        weights.require()
