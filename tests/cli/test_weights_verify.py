"""`weights verify` and `weights status`: what they say of whole, damaged and foreign folders."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.cli import main
from infinitetalk.weights.prepared import MANIFEST
from infinitetalk.weights.synthetic import folder_name, write_synthetic

Say = Callable[[str], tuple[int, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFINITETALK_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def model(home: Path) -> Path:
    """A prepared model whose hashes were noted long ago."""
    folder = home / "weights" / folder_name("tiny", "bf16")
    write_synthetic("tiny", folder, "bf16")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture
def say(home: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """`infinitetalk weights ...`: how it ended and what it printed."""

    def run(command: str) -> tuple[int, str]:
        code = main(["weights", command])
        return code, capsys.readouterr().out

    return run


def test_a_whole_model_is_good(model: Path, say: Say) -> None:
    assert say("verify") == (0, f"{model.name}: good\n")


def test_where_nothing_is_prepared_that_is_said(home: Path, say: Say) -> None:
    assert say("verify") == (0, f"Nothing is prepared in {home / 'weights'}.\n")


@pytest.mark.parametrize("old", [b'{"', b"weight"], ids=["no JSON", "another key"])
def test_a_header_overwritten_without_a_trace_in_size_and_time_is_found(
    old: bytes, model: Path, say: Say
) -> None:
    assert say("verify")[0] == 0  # and noted
    path = model / "vae.safetensors"
    path.write_bytes(path.read_bytes().replace(old, b"x" * len(old), 1))
    os.utime(path, (1e9, 1e9))
    code, said = say("verify")
    assert code == 3
    assert f"{model.name}/vae.safetensors is altered in its header" in said


def test_a_model_with_a_broken_manifest_is_damaged_and_not_forgotten(model: Path, say: Say) -> None:
    broken = model.with_name("standard-fp8-1")
    broken.mkdir()
    (broken / MANIFEST).write_text("{")
    code, said = say("verify")
    assert code == 3
    assert "standard-fp8-1: manifest.json of standard-fp8-1 is unreadable" in said
    assert f"{model.name}: good" in said
    code, said = say("status")
    assert code == 0
    assert "standard-fp8-1 is damaged: manifest.json" in said
    assert "standard is not prepared" not in said
    assert "fast is not prepared" in said


def test_a_manifest_of_another_program_is_no_model(home: Path, say: Say) -> None:
    (home / "weights" / "app").mkdir(parents=True)
    (home / "weights" / "app" / MANIFEST).write_text('{"name": "an app"}')
    assert say("verify")[1].startswith("Nothing is prepared in")
    assert "damaged" not in say("status")[1]
