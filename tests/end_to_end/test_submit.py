"""`infinitetalk submit` against a running service."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.cli import main
from infinitetalk.cli.batch import Stop, run_batch
from infinitetalk.cli.results import SUBMITTING, results_beside
from infinitetalk.cli.sheet import read_rows
from infinitetalk.cli.submit import console
from infinitetalk.client import Client, Patience
from infinitetalk.errors import ConnectionFailed
from tests.end_to_end.reading import read_video
from tests.running_server import RunningServer
from tests.scripted_server import dead_url

Make = Callable[..., Path]
SHORT = ("--max-seconds", "0.4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def media_options(portrait: Path, make_speech: Make) -> list[str]:
    return ["--image", str(portrait), "--audio", str(make_speech(2.0))]


def _jobs(server: RunningServer) -> set[str]:
    return {path.name for path in (server.folder / "data" / "jobs").glob("*")}


def test_a_video_is_handed_in_watched_and_fetched(
    server: RunningServer, here: Path, media_options: list[str], capsys: Any
) -> None:
    fields = [*SHORT, "--seed", "5", "--prompt", "null"]
    target = here / "new" / "[1].mp4"
    command = ["submit", "--url", server.url, *media_options, *fields]
    assert main([*command, "--output", str(target)]) == 0
    said = capsys.readouterr().err
    assert "uploading" in said and "downloading" in said
    assert "new/[1].mp4  0.4 s of video" in said and "preset tiny and the seed 5" in said
    assert len(read_video(target).frames) == 10
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_job_can_be_handed_in_now_and_fetched_later(
    server: RunningServer, here: Path, media_options: list[str], capsys: Any
) -> None:
    assert main(["submit", "--url", server.url, *media_options, *SHORT, "--no-wait"]) == 0
    task_id = capsys.readouterr().out.strip()
    assert main(["submit", "--url", server.url, "--task", task_id]) == 0
    assert [path.name for path in here.iterdir()] == [f"{task_id}.mp4"]


def test_a_refusal_is_one_sentence_and_leaves_nothing(
    server: RunningServer, here: Path, portrait: Path, capsys: Any
) -> None:
    files = ["--image", str(portrait), "--audio", str(portrait)]
    assert main(["submit", "--url", server.url, *files, "--output", "video.mp4"]) == 2
    said = capsys.readouterr().err
    assert "(unsupported_media)" in said and "Fetch it with" not in said
    assert list(here.iterdir()) == []


def test_a_job_that_is_not_there_is_not_promised_to_go_on(
    server: RunningServer, here: Path, capsys: Any
) -> None:
    assert main(["submit", "--url", server.url, "--task", "0" * 32]) == 2
    said = capsys.readouterr().err
    assert "(job_not_found)" in said and "Fetch it with" not in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--image is missing"),
        (["--image", "a.png"], "--audio is missing"),
        (["--image", "no.png", "--audio", "no.wav"], "no.png cannot be read"),
        (["--image", "a", "--audio", "b", "--output", "x.avi"], "must end in .mp4"),
        (["--task", "t1", "--image", "a.png"], "--task takes no --image"),
        (["--task", "t1", "--seed", "0"], "--task takes no --seed"),
        (["--task", "t1", "--box", "1,2,3,4"], "--task takes no --box"),
        (["--csv", "t.csv", "--output", "x.mp4"], "--csv takes no --output"),
        (["--csv", "t.csv", "--at-once", "0"], "--at-once must be"),
        (["--csv", "none.csv"], "none.csv cannot be read"),
        (["--task", "t1", "--api-key", "@none.key"], "none.key cannot be read"),
        (["--task", "t1", "--url", "localhost:3000"], "must begin with http"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_sent(
    options: list[str], says: str, here: Path, capsys: Any
) -> None:
    assert main(["submit", "--url", dead_url(), *options]) == 2
    assert says in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_an_interrupted_wait_says_how_to_go_on_and_repeats_no_secret(
    server: RunningServer, here: Path, media_options: list[str], make_speech: Make, capsys: Any
) -> None:
    (here / "key").write_text("hush\n")
    long = make_speech(120.0, rate=16000, channels=1)
    secrets = ["--header", "X-One=hush", "--header", "X-Two=@key", "--api-key", "hush"]
    with Client(server.url) as client:
        busy = client.submit(media_options[1], long)
        process = _start(
            ["submit", "--url", server.url, *secrets, *media_options, *SHORT], cwd=here
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "in the queue" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        busy.cancel()
    assert process.returncode == 130
    assert "goes on without us" in said and "(canceled)" in said
    assert "hush" not in said and "Traceback" not in said

    command = shlex.split(said.split("Fetch it with: ")[1].split("\n")[0])[1:]
    assert main(command) == 0
    [video] = here.glob("*.mp4")
    assert len(read_video(video).frames) == 10


def _start(command: list[str], cwd: Path) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "infinitetalk.cli", *command]
    return subprocess.Popen(
        program, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


# Tables


@pytest.fixture
def table(here: Path, portrait: Path, make_speech: Make) -> Path:
    """Four rows that can be rendered and two that cannot."""
    speech, path = make_speech(2.0), here / "jobs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "audio", "seed", "output"])
        for number in range(4):
            writer.writerow([os.path.relpath(portrait, here), speech, number, f"out/{number}.mp4"])
        writer.writerow([portrait, portrait, 1, "no_voice.mp4"])
        writer.writerow([portrait, speech, "many", "no_seed.mp4"])
    return path


def _results(table: Path) -> dict[str, dict[str, str]]:
    with table.with_suffix(".results.csv").open() as file:
        return {cells["output"]: cells for cells in csv.DictReader(file)}


def test_a_table_is_rendered_row_by_row_and_never_twice(
    server: RunningServer, table: Path, capsys: Any
) -> None:
    command = ["submit", "--url", server.url, "--csv", str(table), *SHORT, "--at-once", "3"]
    before = _jobs(server)
    assert main(command) == 2
    made = _jobs(server) - before
    results = _results(table)
    assert {cells["status"] for name, cells in results.items() if "out/" in name} == {"completed"}
    assert {cells["task_id"] for cells in results.values()} == {"", *made}
    assert results["no_voice.mp4"]["code"] == "unsupported_media"
    assert results["no_seed.mp4"]["error"] == "seed must be a whole number."
    assert len(list((table.parent / "out").glob("*.mp4"))) == 4
    assert "4 completed, 2 failed." in capsys.readouterr().err

    (table.parent / "out/2.mp4").unlink()
    assert main(command) == 2
    assert _jobs(server) - before == made, "nothing that was rendered is rendered again"
    assert (table.parent / "out/2.mp4").exists(), "what was lost here is fetched again"

    table.write_text("".join(table.read_text().splitlines(keepends=True)[:5]))
    command[2] = dead_url()
    assert main(command) == 0, "what is done needs no service"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_table_goes_on_after_its_command_was_ended(
    number: signal.Signals, server: RunningServer, table: Path
) -> None:
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:5]))
    command = ["submit", "--url", server.url, "--csv", str(table), *SHORT, "--at-once", "2"]
    before = _jobs(server)
    process = _start(command, cwd=table.parent)
    _wait_for(lambda: len(_jobs(server)) > len(before))
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number], said
    assert number is signal.SIGKILL or "goes on with them" in said
    assert main(command) == 0
    assert len(_jobs(server)) - len(before) == 4
    assert {cells["status"] for cells in _results(table).values()} == {"completed"}
    assert not list(table.parent.rglob("*.part"))


def _wait_for(claim: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_service_that_is_gone_ends_the_table_and_spoils_no_row(table: Path) -> None:
    rows = read_rows(table, {})[:2]
    patience = Patience(0)
    with (
        Client(dead_url(), patience=patience) as client,
        results_beside(table, rows) as results,
        pytest.raises(ConnectionFailed),
    ):
        run_batch(client, rows, results, 1, Stop(), console)
    assert [results.of(row).status for row in rows] == [SUBMITTING, "new"]
