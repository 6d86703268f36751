"""`infinitetalk report`: a video, a folder, a job of a server."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from infinitetalk.cli import main
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import Usage
from infinitetalk.jobs.store import SqliteJobStore
from infinitetalk.progress import Stage
from tests.jobs.records import ENOUGH, a_job
from tests.report.conftest import FRAMES
from tests.scripted_server import Answer, ScriptedServer, headers_of, said

pytest_plugins = ["tests.report.conftest"]
SPENT = Usage(stages={Stage.DENOISING: 2.5})


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The numbers that were printed."""
    numbers: dict[str, object] = json.loads(capsys.readouterr().out)
    return numbers


def test_a_video_becomes_a_sheet_beside_the_numbers(
    talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(talking), "--json"]) == 0
    with Image.open(tmp_path / "talking.mp4.report.png") as sheet:
        assert sheet.format == "PNG" and sheet.width == 1600
    numbers = told(capsys)
    assert (numbers["frames"], numbers["stages"]) == (FRAMES, None)


def test_a_folder_of_a_service_brings_its_stages(
    talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = a_job(usage=SPENT)
    folder = JobFolder(tmp_path / "data" / "jobs" / job.id)
    folder.root.mkdir(parents=True)
    shutil.copy(talking, folder.result)
    database = Database(tmp_path / "data" / "jobs.db")
    SqliteJobStore(database).add(job, limit=ENOUGH)
    database.close()
    assert main(["report", str(folder.root), "--json", "--output", "sheet.png"]) == 0
    assert told(capsys)["stages"] == {"denoising": 2.5}


def test_a_job_of_a_server_is_fetched_with_its_stages(
    talking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = talking.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    status = said(
        task_id="t1",
        status="completed",
        error=None,
        video={"sha256": digest, "size_bytes": len(content), "frames": FRAMES, "windows": 1},
        stages={"denoising": 2.5},
    )
    with ScriptedServer(status, Answer(200, content), status) as server:
        asked = ["report", "t1", "--url", server.url, "--api-key", "k", "--json"]
        assert main(asked) == 0
    numbers = told(capsys)
    assert (numbers["name"], numbers["stages"]) == ("job t1", {"denoising": 2.5})
    assert headers_of(server.asked, "authorization") == ["Bearer k"] * 3
    assert Path("t1.report.png").exists()


def test_of_an_unfinished_job_the_finished_windows_are_shown(
    talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = JobFolder(tmp_path / "video.mp4.job")
    folder.encoded_sound.parent.mkdir(parents=True)
    shutil.copy(talking.with_name("sound.m4a"), folder.encoded_sound)
    assert main(["report", str(folder.root)]) != 0
    assert "job_not_finished" in capsys.readouterr().err
    shutil.copy(talking.with_name("0.m4s"), folder.fragment(0))
    assert main(["report", str(folder.root), "--json"]) == 0
    assert told(capsys)["frames"] == FRAMES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.mp4"], "needs --url"),
        (["talking.mp4", "--output", "sheet.jpg"], "must end in .png"),
        (["talking.mp4", "--output", "nowhere/sheet.png"], "no folder"),
        (["talking.mp4", *["--box", "0,0,9,9"] * 3], "two speakers at most"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err
