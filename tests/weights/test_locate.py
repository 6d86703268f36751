"""Which prepared weights are loaded where there is a choice, and what is said where not."""

from pathlib import Path

import pytest
import torch

from infinitetalk.config import Settings
from infinitetalk.errors import DeviceTooSmall, WeightsCorrupt, WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.device_memory import GIB, Memory
from infinitetalk.weights.footprint import Footprint
from infinitetalk.weights.locate import choose_arithmetic, choose_weights, foresee, locate_weights
from infinitetalk.weights.memory_plan import plan_largest
from infinitetalk.weights.model_config import MODEL, released_config
from infinitetalk.weights.prepared import MANIFEST, read_manifest
from infinitetalk.weights.text_placement import TextPlacement
from tests.weights.prepared_models import announce

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STANDARD = PRESETS["standard"]
PLENTY = Memory(1000 * GIB, 1000 * GIB)


def smallest(precision: str) -> Memory:
    """The least memory of a GPU that takes the full model."""
    model = Footprint(STANDARD, released_config(), precision, torch.bfloat16, GPU)
    return Memory(plan_largest(model, Memory(0, 0)).needed, 100 * GIB)


def less(memory: Memory) -> Memory:
    return Memory(memory.device - 1, memory.host)


# the small models


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "fp8"])
def test_a_synthetic_model_is_written_on_first_use_and_found_on_the_second(
    tmp_path: Path, precision: str
) -> None:
    settings = Settings(home=tmp_path, precision=precision)
    ((folder, manifest),) = locate_weights("tiny", settings).items()
    written = (folder / MANIFEST).stat().st_mtime_ns
    assert locate_weights("tiny", settings) == {folder: manifest}
    assert (folder / MANIFEST).stat().st_mtime_ns == written
    stored = "fp8" if precision == "fp8" else "bf16"
    assert (manifest.preset, manifest.precision, manifest.speakers) == ("tiny", stored, 2)


def test_the_weights_of_one_precision_do_not_hide_those_of_another(tmp_path: Path) -> None:
    first, second = (
        locate_weights("tiny", Settings(home=tmp_path, precision=precision))
        for precision in ("float32", "fp8")
    )
    assert not first.keys() & second.keys()


def test_weights_that_cannot_be_written_are_missing(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("in the way")
    with pytest.raises(WeightsMissing, match="tiny cannot be written"):
        locate_weights("tiny", Settings(home=tmp_path))


# the full model


def test_weights_nobody_prepared_are_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="standard are not prepared"):
        choose_weights("standard", Settings(weights=tmp_path / "nowhere"), GPU, PLENTY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prepared", "free", "chosen"),
    [
        (["bf16", "fp8"], PLENTY, "bf16"),
        (["bf16", "fp8"], smallest("bf16"), "bf16"),
        (["bf16", "fp8"], less(smallest("bf16")), "fp8"),
        (["fp8"], PLENTY, "fp8"),
        (["fp8"], smallest("fp8"), "fp8"),
    ],
)
def test_of_the_prepared_precisions_the_best_that_fits_is_taken(
    tmp_path: Path, prepared: list[str], free: Memory, chosen: str
) -> None:
    for precision in prepared:
        announce(tmp_path, precision=precision)
    found = choose_weights("standard", Settings(weights=tmp_path), GPU, free)
    assert found.folder == tmp_path / f"standard-{chosen}-1"
    assert found.manifest == read_manifest(found.folder)
    assert (found.plan.precision, found.plan.fits) == (chosen, True)


def test_the_plan_of_the_weights_follows_the_settings(tmp_path: Path) -> None:
    announce(tmp_path, precision="fp8")
    settings = Settings(weights=tmp_path, text_encoder="cpu")
    found = choose_weights("standard", settings, GPU, PLENTY)
    assert found.plan.text_encoder is TextPlacement.CPU


def test_on_a_cpu_8_bits_are_taken_where_nothing_else_is_prepared(tmp_path: Path) -> None:
    announce(tmp_path, precision="fp8", speakers=2)
    assert choose_weights("standard", Settings(weights=tmp_path), CPU, PLENTY).plan.fits


@pytest.mark.parametrize(
    ("precision", "settings", "said"),
    [
        ("fp8", {}, "in fp8 needs"),
        ("fp8", {}, "What would help: another GPU, or the preset demo."),
        ("fp8", {}, "at 480p, and 4.0 GiB are free"),
        (
            "bf16",
            {},
            "fp8 (`infinitetalk weights prepare --preset standard --precision fp8`), another GPU",
        ),
        ("bf16", {"text_encoder": "device"}, "INFINITETALK_TEXT_ENCODER=auto"),
        ("fp8", {"memory_gigabytes": 4.0}, "a larger INFINITETALK_MEMORY_GIGABYTES"),
    ],
)
def test_too_small_a_device_is_told_what_is_needed_and_what_would_help(
    tmp_path: Path, precision: str, settings: dict[str, object], said: str
) -> None:
    announce(tmp_path, precision=precision)
    wish = Settings(weights=tmp_path, **settings)  # type: ignore[arg-type]
    with pytest.raises(DeviceTooSmall) as refused:
        choose_weights("standard", wish, GPU, Memory(4 * GIB, 100 * GIB))
    assert said in refused.value.message
    assert str(tmp_path) not in refused.value.message


def test_too_small_a_host_is_told_so(tmp_path: Path) -> None:
    announce(tmp_path, precision="fp8")
    settings = Settings(weights=tmp_path, text_encoder="cpu")
    with pytest.raises(DeviceTooSmall, match=r"needs 10\.6 GiB of the CPU's memory .* 8\.0 GiB"):
        choose_weights("standard", settings, GPU, Memory(1000 * GIB, 8 * GIB))


def test_weights_without_sizes_are_corrupt(tmp_path: Path) -> None:
    (announce(tmp_path) / MODEL).unlink()
    with pytest.raises(WeightsCorrupt):
        choose_weights("standard", Settings(weights=tmp_path), GPU, PLENTY)


@pytest.mark.parametrize(
    ("precision", "device", "arithmetic"),
    [
        ("auto", CPU, torch.float32),
        ("auto", GPU, torch.bfloat16),
        ("fp8", CPU, torch.float32),
        ("fp8", GPU, torch.bfloat16),
        ("float32", GPU, torch.float32),
        ("bfloat16", CPU, torch.bfloat16),
    ],
)
def test_the_arithmetic_is_the_devices_unless_it_is_named(
    precision: str, device: torch.device, arithmetic: torch.dtype
) -> None:
    assert choose_arithmetic(precision, device) is arithmetic


# before anything is prepared


@pytest.mark.parametrize(
    ("prepared", "setting", "free", "foreseen"),
    [
        ([], "auto", PLENTY, "bf16"),
        ([], "auto", less(smallest("bf16")), "fp8"),
        ([], "auto", less(smallest("fp8")), "fp8"),
        ([], "bfloat16", smallest("fp8"), "bf16"),
        (["fp8"], "auto", PLENTY, "fp8"),
        (["fp8"], "bfloat16", PLENTY, "bf16"),
    ],
)
def test_what_would_be_loaded_is_foreseen_from_what_is_or_could_be_prepared(
    tmp_path: Path, prepared: list[str], setting: str, free: Memory, foreseen: str
) -> None:
    for precision in prepared:
        announce(tmp_path, precision=precision)
    settings = Settings(weights=tmp_path, precision=setting)
    assert foresee(STANDARD, settings, GPU, free).precision == foreseen


def test_foreseeing_a_small_model_writes_nothing(tmp_path: Path) -> None:
    model = foresee(PRESETS["tiny"], Settings(home=tmp_path, precision="fp8"), CPU, PLENTY)
    assert (model.precision, model.config.transformer.dim) == ("fp8", 64)
    assert list(tmp_path.iterdir()) == []
