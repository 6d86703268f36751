"""Which preset `auto` is, and what is said when it is the small one."""

import json
from pathlib import Path

import pytest

from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.preset_choice import PresetChoice, ask_preset, choose_preset
from tests.weights.prepared_models import announce

SMALL = "The preset standard in fp8 needs 33.9 GiB of device memory, and 22.0 GiB are free"


def never(preset: str, settings: Settings) -> str | None:
    raise AssertionError("nobody has to look for a GPU")


@pytest.mark.parametrize("preset", ["tiny", "best"])
def test_a_named_preset_is_taken_without_a_look(tmp_path: Path, preset: str) -> None:
    settings = Settings(home=tmp_path, preset=preset)
    assert choose_preset(settings, never) == ask_preset(settings) == PresetChoice(preset)


@pytest.mark.parametrize(
    ("wish", "command"),
    [
        ({}, "`infinitetalk weights prepare --preset standard` makes them"),
        ({"precision": "bfloat16"}, "--preset standard --precision bf16` makes them"),
        ({"speakers": "2"}, "for two speakers; `infinitetalk weights"),
    ],
)
def test_without_prepared_weights_it_is_the_demo_and_the_command_is_named(
    tmp_path: Path, wish: dict[str, str], command: str
) -> None:
    announce(tmp_path / "weights", precision="fp8", speakers=1) if wish else None
    announce(tmp_path / "weights", preset="best")
    settings = Settings(home=tmp_path, **wish)  # type: ignore[arg-type]
    choice = choose_preset(settings, never)
    assert choice == ask_preset(settings)
    assert choice.preset == "demo"
    assert choice.reason is not None and command in choice.reason


@pytest.mark.parametrize(
    ("why_not", "choice"),
    [(None, PresetChoice("standard")), (SMALL, PresetChoice("demo", SMALL))],
)
def test_with_prepared_weights_the_gpu_decides(
    tmp_path: Path, why_not: str | None, choice: PresetChoice
) -> None:
    announce(tmp_path / "weights")
    assert choose_preset(Settings(home=tmp_path), lambda *_: why_not) == choice


def test_the_command_that_is_asked_looks_at_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(tmp_path / "weights")
    monkeypatch.setenv("INFINITETALK_HOME", str(tmp_path))
    monkeypatch.setenv("INFINITETALK_DEVICE", "cpu")
    assert main(["doctor", "--preset"]) == 0
    told = PresetChoice(**json.loads(capsys.readouterr().out))
    assert told == PresetChoice("demo", "there is no GPU")
