"""`infinitetalk accept`: what it prints and keeps, and how it ends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.acceptance.report import from_json
from infinitetalk.acceptance.run import VIDEO
from infinitetalk.cli import main
from infinitetalk.config import Settings
from tests.acceptance.subjects import poison

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`infinitetalk accept ...`: how it ended and what it printed."""
    monkeypatch.setenv("INFINITETALK_HOME", str(settings.home))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    def run(*options: str) -> tuple[int, str]:
        code = main(["accept", "--preset", "tiny", "--seconds", "1", *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_command_prints_the_report_and_keeps_what_it_is_told_to(
    command: Command, tmp_path: Path
) -> None:
    code, said = command("--json", str(tmp_path / "report.json"), "--output", str(tmp_path / "new"))
    assert code == 0
    report = from_json((tmp_path / "report.json").read_text())
    assert all(check.name in said for check in report.checks)
    assert all(figure.name in said for figure in report.figures)
    assert "usd_per_video_minute" not in said
    assert [path.name for path in (tmp_path / "new").iterdir()] == [VIDEO]


def test_the_command_fails_with_a_nan(command: Command, settings: Settings) -> None:
    poison(settings)
    code, said = command()
    assert code == 4
    assert "render: failed" in said and "generation_diverged" in said


@pytest.mark.parametrize(
    "options",
    [["--seconds", "0.5"], ["--seconds", "nan"], ["--sweep"], ["--json", "/nowhere/report.json"]],
    ids=["too short", "no number", "sweep without a folder", "no such folder"],
)
def test_the_command_refuses_what_it_cannot_do(command: Command, options: list[str]) -> None:
    assert command(*options)[0] == 2


def test_a_price_of_the_settings_is_a_price_of_the_video(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFINITETALK_GPU_PRICE_PER_HOUR", "1.95")
    assert "usd_per_video_minute" in command()[1]
