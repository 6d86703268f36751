"""image/setup.sh, the step of the image that installs PyTorch and flash-attn.

The real script runs; `uv`, `python` and `chown` are programs that note how they were called.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "image/setup.sh"
SHA = "ab" * 32
URL = "https://example.org/flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl"
NOTE = """#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
while [ $# -gt 0 ]; do
    if [ "$1" = --requirements ]; then cat "$2" >> "$CALLS"; fi
    if [ "$1" = "$FAILS" ]; then exit 1; fi
    shift
done
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    errors: str
    calls: list[str]

    @property
    def installations(self) -> list[str]:
        return [call for call in self.calls if call.startswith("uv pip install")]

    def index(self, start: str) -> int:
        [index] = [i for i, call in enumerate(self.calls) if call.startswith(start)]
        return index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for what the script makes, with the programs it calls in bin/."""
    (tmp_path / "bin").mkdir()
    for name in ("uv", "python", "chown"):
        program = tmp_path / "bin" / name
        program.write_text(NOTE)
        program.chmod(0o755)
    return tmp_path


def set_up(folder: Path, **arguments: str) -> Outcome:
    calls = folder / "calls"
    variables = {
        "PATH": f"{folder}/bin:{os.defpath}",
        "CALLS": str(calls),
        "FAILS": "",
        "BENTO_PATH": "/bento",
        "TORCH_VERSION": "2.11.0",
        "TORCH_INDEX": "https://example.org/cu130",
        "FLASH_ATTN": "2.8.3",
        "FLASH_ATTN_SHA256": SHA,
        "FLASH_ATTN_CUDA_ARCHS": "80;90",
        "INFINITETALK_DATA": str(folder / "data"),
        "INFINITETALK_WEIGHTS": str(folder / "models"),
    }
    run = subprocess.run(
        ["sh", SCRIPT], env={**variables, **arguments}, capture_output=True, text=True
    )
    return Outcome(run.returncode, run.stderr, calls.read_text("utf-8").splitlines())


def test_flash_attn_is_installed_after_torch_and_both_are_imported(folder: Path) -> None:
    outcome = set_up(folder)
    order = [
        "uv pip install --constraint",
        "python -c import torch",
        "uv pip install --no-deps --no-build-isolation --require-hashes",
        "python -c import flash_attn",
        "uv pip check",
    ]
    assert [outcome.index(start) for start in order] == sorted(map(outcome.index, order))
    assert outcome.code == 0


@pytest.mark.parametrize(
    ("chosen", "requirement"),
    [("2.8.3", "flash-attn==2.8.3"), (URL, f"flash-attn @ {URL}")],
    ids=["source", "wheel"],
)
def test_flash_attn_is_checked_by_its_hash(folder: Path, chosen: str, requirement: str) -> None:
    assert f"{requirement} --hash=sha256:{SHA}" in set_up(folder, FLASH_ATTN=chosen).calls


def test_without_flash_attn_nothing_of_it_is_installed(folder: Path) -> None:
    outcome = set_up(folder, FLASH_ATTN="none")
    assert outcome.code == 0
    assert [call.split()[-1] for call in outcome.installations] == ["torch==2.11.0"]


@pytest.mark.parametrize("architectures", ["89", "80;89", "8.0"])
def test_architectures_that_flash_attn_would_ignore_are_refused(
    folder: Path, architectures: str
) -> None:
    outcome = set_up(folder, FLASH_ATTN_CUDA_ARCHS=architectures)
    assert outcome.code == 1
    assert f"FLASH_ATTN_CUDA_ARCHS is '{architectures}'" in outcome.errors
    assert [call.split()[-1] for call in outcome.installations] == ["torch==2.11.0"]


def test_a_wheel_is_taken_whatever_would_be_compiled_for(folder: Path) -> None:
    assert set_up(folder, FLASH_ATTN=URL, FLASH_ATTN_CUDA_ARCHS="89").code == 0


@pytest.mark.parametrize(
    ("index", "asked"),
    [("https://example.org/cpu", "--index https://example.org/cpu torch"), ("", ".txt torch")],
    ids=["index", "pypi"],
)
def test_torch_comes_from_the_index_of_the_build_argument(
    folder: Path, index: str, asked: str
) -> None:
    outcome = set_up(folder, TORCH_INDEX=index)
    assert f"{asked}==2.11.0" in outcome.calls[0]


@pytest.mark.parametrize(
    "fails", ["install", "import torch", "import flash_attn", "check"], ids=str.split
)
def test_a_step_that_fails_ends_the_build(folder: Path, fails: str) -> None:
    outcome = set_up(folder, FAILS=fails)
    assert outcome.code == 1
    assert fails in outcome.calls[-1]


def test_the_data_folder_belongs_to_the_service_and_the_weights_do_not(folder: Path) -> None:
    outcome = set_up(folder)
    assert (folder / "data").is_dir()
    assert (folder / "models").is_dir()
    assert [c for c in outcome.calls if c.startswith("chown")] == [
        f"chown bentoml:bentoml {folder}/data {folder}/models"
    ]
