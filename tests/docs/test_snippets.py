"""Every snippet of README.md and docs/ does what it says, as a reader would run it.

Each runs in a folder with the files that the pages name. Three things differ from a reader's
machine: `localhost:3000` is the server of these tests, `0a1b...` a job that it has completed, and
`make` says what it would do and does nothing. Snippets that need more than this machine are checked
for syntax and for the options of our own commands; those that load a model run with the slow tests.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from infinitetalk.cli import parser
from infinitetalk.client import Client
from loadtest.__main__ import _parser as loadtest_parser
from tests.docs.snippets import ROOT, Snippet, all_snippets, commands
from tests.running_server import RunningServer

ASSETS = ROOT / "infinitetalk" / "demo" / "assets"
SNIPPETS = all_snippets()
LANGUAGES = {"", "sh", "python", "json"}
PARSERS = {
    "infinitetalk": parser,
    "infinitetalk.cli": parser,
    "loadtest": loadtest_parser,
}
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
LOAD_MODEL = {"generate", "doctor"}
TIMEOUT_S = 120


def called(words: list[str]) -> tuple[str, list[str]]:
    """The program, or the module after `python -m`, and the words for it."""
    name = Path(words[0]).name
    if name.startswith("python") and words[1:2] == ["-m"]:
        return words[2], words[3:]
    return name, words[1:]


def of(language: str, *, here: bool) -> list[Snippet]:
    """Snippets in a language that run here, or that do not."""
    found = [snippet for snippet in SNIPPETS if snippet.language == language]
    return [snippet for snippet in found if (snippet.needs is None) is here]


def loads_model(snippet: Snippet) -> bool:
    calls = [called(words) for words in commands(snippet.text)]
    return any(name == "infinitetalk" and rest[0] in LOAD_MODEL for name, rest in calls)


def snippets(found: Sequence[Snippet]) -> pytest.MarkDecorator:
    """A test for each of them."""
    return pytest.mark.parametrize("snippet", found, ids=[snippet.name for snippet in found])


SHELL_HERE = of("sh", here=True)
SLOW = [snippet for snippet in SHELL_HERE if loads_model(snippet)]
QUICK = [snippet for snippet in SHELL_HERE if not loads_model(snippet)]
ELSEWHERE = of("sh", here=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with a checkout, a face, a voice and a running server."""

    media: Path
    server: RunningServer
    job: str

    def settle(self, folder: Path) -> dict[str, str]:
        """Put what the pages take for granted into a folder; the environment to run in."""
        for path in self.media.iterdir():
            (folder / path.name).symlink_to(path)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        tools = folder / "tools"
        tools.mkdir()
        (tools / "make").write_text(
            f'#!/bin/sh\nexec {shutil.which("make")} --dry-run --directory {ROOT} "$@"\n'
        )
        (tools / "make").chmod(0o755)
        (tools / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nmax-time = 60\n")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFINITETALK_")}
        return {
            **inherited,
            "PATH": os.pathsep.join([str(tools), str(ROOT / ".venv" / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "CURL_HOME": str(tools),
            "INFINITETALK_PRESET": "tiny",
            "INFINITETALK_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
        }

    def as_here(self, text: str) -> str:
        """A snippet with the places of this machine."""
        return text.replace("localhost:3000", f"127.0.0.1:{self.server.port}").replace(
            "0a1b...", self.job
        )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    media = tmp_path_factory.mktemp("media")
    write_media(media)
    with RunningServer(tmp_path_factory.mktemp("server")) as server:
        yield Reader(media, server, completed_job(server, media))


def write_media(folder: Path) -> None:
    """The files that the pages name: a face and a voice, a picture of two and a voice for each."""
    wave, rate = soundfile.read(ASSETS / "speech.flac", dtype="float32")
    for name in ("voice.mp3", "left.wav", "right.wav"):
        soundfile.write(folder / name, wave[: rate // 2], rate)
    with Image.open(ASSETS / "portrait.png") as portrait:
        face = portrait.convert("RGB").resize((256, 256))
    face.save(folder / "face.jpg")
    two = Image.new("RGB", (560, 420))
    two.paste(face.resize((280, 420)), (0, 0))
    two.paste(face.resize((280, 420)), (280, 0))
    two.save(folder / "two.png")


def completed_job(server: RunningServer, media: Path) -> str:
    """A job whose video is there, here and in the folder of files."""
    with Client(server.url) as client:
        task = client.submit(media / "face.jpg", media / "voice.mp3", max_seconds=0.5)
        task.wait()
        task.download(media / "talk.mp4")
    return task.id


def run_in_shell(snippet: Snippet, reader: Reader, folder: Path) -> None:
    run = subprocess.run(
        ["bash", "-c", f"set -eu\n{reader.as_here(snippet.text)}"],
        cwd=folder,
        env=reader.settle(folder),
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert run.returncode == 0, f"{snippet.name}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"


@snippets(QUICK)
def test_a_shell_snippet_runs(snippet: Snippet, reader: Reader, tmp_path: Path) -> None:
    run_in_shell(snippet, reader, tmp_path)


@pytest.mark.slow
@snippets(SLOW)
def test_a_shell_snippet_that_loads_a_model_runs(
    snippet: Snippet, reader: Reader, tmp_path: Path
) -> None:
    run_in_shell(snippet, reader, tmp_path)


@snippets(of("python", here=True))
def test_a_python_snippet_runs(
    snippet: Snippet, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.settle(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(reader.as_here(snippet.text), snippet.name, "exec"), {"__name__": "__main__"})


@snippets([*SHELL_HERE, *ELSEWHERE])
def test_a_shell_snippet_can_be_read_by_a_shell(snippet: Snippet) -> None:
    run = subprocess.run(["bash", "-n", "-c", snippet.text], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@snippets([*SHELL_HERE, *ELSEWHERE])
def test_our_commands_take_the_options_that_they_are_given(snippet: Snippet) -> None:
    for words in commands(snippet.text):
        program, rest = called(words)
        if program == "make":
            assert {word for word in rest if "=" not in word} <= TARGETS
        elif program in PARSERS:
            try:
                PARSERS[program]().parse_args(rest)
            except (SystemExit, argparse.ArgumentError):
                pytest.fail(f"{snippet.name}: {' '.join(words)}")


@snippets(of("python", here=False))
def test_a_python_snippet_can_be_read(snippet: Snippet) -> None:
    ast.parse(snippet.text, snippet.name)


@snippets(of("json", here=True))
def test_a_json_snippet_is_json(snippet: Snippet) -> None:
    json.loads(snippet.text)


def test_snippets_of_every_kind_are_found() -> None:
    assert all([QUICK, SLOW, ELSEWHERE, of("python", here=True), of("json", here=True)])


def test_there_is_no_snippet_in_a_language_that_nobody_checks() -> None:
    assert {snippet.language for snippet in SNIPPETS} <= LANGUAGES
