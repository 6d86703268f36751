"""Which prepared models the settings leave, and what is said when there is none."""

from pathlib import Path

import pytest

from infinitetalk.config import Settings
from infinitetalk.errors import InvalidField, WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.selection import find_weights, require_weights, settings_for
from tests.weights.prepared_models import announce

KINDS = [("bf16", 1), ("fp8", 1), ("bf16", 2), ("fp8", 2)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of `standard`, and one model of `best`."""
    weights = tmp_path_factory.mktemp("weights")
    for precision, speakers in reversed(KINDS):
        announce(weights, "standard", precision, speakers)
    announce(weights, "best", "fp8", 2)
    return weights


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({}, KINDS),
        ({"speakers": "2"}, [("bf16", 2), ("fp8", 2)]),
        ({"precision": "fp8"}, [("fp8", 1), ("fp8", 2)]),
        ({"precision": "bfloat16"}, [("bf16", 1), ("bf16", 2)]),
        ({"precision": "float32"}, [("bf16", 1), ("bf16", 2)]),
        ({"precision": "fp8", "speakers": "1"}, [("fp8", 1)]),
    ],
    ids=str,
)
def test_one_speaker_comes_before_two_and_bf16_before_fp8(
    weights: Path, wish: dict[str, str], found: list[tuple[str, int]]
) -> None:
    chosen = find_weights("standard", Settings(weights=weights, **wish))
    assert [(manifest.precision, manifest.speakers) for manifest in chosen.values()] == found
    assert [folder.name for folder in chosen] == [f"standard-{p}-{s}" for p, s in found]


@pytest.mark.parametrize(
    ("preset", "wish", "command"),
    [
        ("fast", {}, "--preset fast`"),
        ("best", {"precision": "float32"}, "--preset best --precision bf16`"),
        ("best", {"precision": "bfloat16"}, "--preset best --precision bf16`"),
        ("best", {"speakers": "1"}, "--preset best --speakers 1`"),
        (
            "fast",
            {"precision": "fp8", "speakers": "2"},
            "--preset fast --precision fp8 --speakers 2`",
        ),
    ],
)
def test_what_is_not_prepared_is_named_with_the_command_that_prepares_it(
    weights: Path, preset: str, wish: dict[str, str], command: str
) -> None:
    settings = Settings(weights=weights, **wish)
    with pytest.raises(WeightsMissing) as missing:
        require_weights(preset, settings)
    assert f"Run `infinitetalk weights prepare {command}" in missing.value.message
    assert str(weights) not in missing.value.message


@pytest.mark.parametrize("name", ["a-first-by-name", "z-last-by-name"])
def test_the_usual_name_of_a_folder_comes_before_any_other(tmp_path: Path, name: str) -> None:
    announce(tmp_path, precision="fp8", name=name)
    announce(tmp_path, precision="fp8")
    announce(tmp_path, precision="bf16", name="other")
    found = find_weights("standard", Settings(weights=tmp_path))
    assert [folder.name for folder in found] == ["other", "standard-fp8-1", name]


@pytest.mark.parametrize(
    ("voices", "setting", "found"),
    [
        (1, "auto", [1, 2]),
        (1, "1", [1]),
        (1, "2", [2]),
        (2, "auto", [2]),
        (2, "1", [1]),
        (2, "2", [2]),
    ],
)
def test_two_voices_leave_only_weights_for_two_unless_the_setting_names_a_number(
    tmp_path: Path, voices: int, setting: str, found: list[int]
) -> None:
    for speakers in (1, 2):
        announce(tmp_path, speakers=speakers)
    settings = settings_for(voices, Settings(weights=tmp_path, speakers=setting))
    manifests = find_weights("standard", settings).values()
    assert [manifest.speakers for manifest in manifests] == found


@pytest.mark.parametrize(
    ("prepared", "wish", "ways"),
    [
        ([1, 2], {}, "For two, set INFINITETALK_SPEAKERS=2 and start again."),
        (
            [1],
            {"precision": "bfloat16"},
            "For two, run `infinitetalk weights prepare --preset standard --precision bf16 "
            "--speakers 2`, set INFINITETALK_SPEAKERS=2 and start again.",
        ),
    ],
)
def test_a_second_voice_for_weights_of_one_is_refused_with_what_helps(
    tmp_path: Path, prepared: list[int], wish: dict[str, str], ways: str
) -> None:
    for speakers in prepared:
        announce(tmp_path, speakers=speakers)
    settings = Settings(weights=tmp_path, speakers="1", **wish)  # type: ignore[arg-type]
    require_weights("standard", settings, voices=1)
    with pytest.raises(InvalidField) as refused:
        require_weights("standard", settings, voices=2)
    assert refused.value.field == "audio_2"
    assert refused.value.message == f"The weights here are for one speaker. {ways}"


@pytest.mark.parametrize("preset", [p.name for p in PRESETS.values() if p.is_bundled])
def test_the_small_models_need_no_preparing(tmp_path: Path, preset: str) -> None:
    require_weights(preset, Settings(home=tmp_path, precision="fp8", speakers="1"), voices=2)
