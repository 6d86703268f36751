"""The command as a person uses it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from tests.end_to_end.reading import read_video

Make = Callable[..., Path]
Command = list[str]


@pytest.fixture(autouse=True)
def _home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_HOME", str(settings.home))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


def _command(portrait: Path, speech: Path, output: Path, *options: str) -> Command:
    files = ["--image", str(portrait), "--audio", str(speech), "--output", str(output)]
    return ["generate", "--preset", "tiny", *files, *options]


def test_generate_says_where_the_video_is_and_leaves_nothing_else(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / "[1] video.mp4"
    assert main(_command(portrait, make_speech(2.0), output)) == 0
    said = capsys.readouterr().err
    assert "window 2 of 2" in said
    assert "[1] video.mp4" in said and "2.0 s of video" in said
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert len(read_video(output).frames) == 50


def test_an_existing_video_is_replaced_only_when_the_new_one_is_done(
    portrait: Path, make_speech: Make, tmp_path: Path
) -> None:
    output = tmp_path / "video.mp4"
    output.write_bytes(b"old")
    assert main(_command(tmp_path / "missing.png", make_speech(0.4), output)) == 2
    assert output.read_bytes() == b"old"
    assert main(_command(portrait, make_speech(0.4), output)) == 0
    assert len(read_video(output).frames) == 10


def test_same_seed_same_video_and_another_seed_another(
    portrait: Path, make_speech: Make, tmp_path: Path
) -> None:
    frames = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        output = tmp_path / f"{name}.mp4"
        assert main(_command(portrait, make_speech(0.4), output, "--seed", seed)) == 0
        frames.append(read_video(output).frames)
    assert (frames[0] == frames[1]).all()
    assert (frames[0] != frames[2]).any()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_does(
    number: signal.Signals,
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "video.mp4"
    folder = JobFolder(tmp_path / "video.mp4.job")
    command = _command(portrait, make_speech(60.0, rate=16000, channels=1), output)
    process = _start(command)
    _wait_for(folder.fragment(2))
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"--resume {folder.root}" in said and "Traceback" not in said
    assert not output.exists()
    assert list(folder.root.rglob("*.part")) == []

    assert main(command) == 2, "a new run must not overwrite the unfinished one"
    assert "--resume" in capsys.readouterr().err
    assert folder.checkpoint.exists()


def test_interrupted_before_the_first_window_nothing_is_kept(
    portrait: Path, make_speech: Make, tmp_path: Path
) -> None:
    folder = JobFolder(tmp_path / "video.mp4.job")
    process = _start(_command(portrait, make_speech(2.0), tmp_path / "video.mp4"))
    _wait_for(folder.job)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def _start(command: Command) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "infinitetalk.cli", *command]
    return subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def _wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.01)


def test_a_folder_without_a_job_cannot_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--resume", str(tmp_path)]) == 2
    assert "(invalid_input)" in capsys.readouterr().err


def test_auto_falls_back_to_demo_loudly(
    make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--image", str(tmp_path / "no.png"), "--audio", str(make_speech(0.4))]
    main(["generate", *files, "--output", str(tmp_path / "video.mp4")])
    said = " ".join(capsys.readouterr().err.split())
    assert "preset demo" in said and "--preset" in said


def test_a_preset_without_weights_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--image", "never_opened.png", "--audio", "never_opened.wav"]
    output = str(tmp_path / "video.mp4")
    assert main(["generate", "--preset", "best", *files, "--output", output]) == 3
    assert "(weights_missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("INFINITETALK_DEVICE", "cuda:7", "device_unavailable"),
        ("INFINITETALK_ATTENTION", "cudnn", "attention_unavailable"),
        ("INFINITETALK_ATTENTION", "magic", "invalid_setting"),
        ("INFINITETALK_HOMES", "/tmp", "invalid_setting"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    name: str,
    value: str,
    code: str,
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert main(_command(portrait, make_speech(0.4), tmp_path / "video.mp4")) == 3
    assert f"({code})" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "file"
    target.write_text("in the way")
    assert main(_command(portrait, make_speech(0.4), target / "video.mp4")) == 2
    assert "(invalid_field)" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line_and_a_stack_with_debug(
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    monkeypatch.setenv("INFINITETALK_HOME", str(home))
    command = _command(portrait, make_speech(0.4), tmp_path / "video.mp4")
    assert main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "(internal)" in said and "Traceback" not in said
    with pytest.raises(OSError, match="home"):
        main([*command, "--debug"])


def test_doctor_describes_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for row in ("torch", "device cpu", "attention sdpa", "preset tiny", "ffmpeg", "memory demo"):
        assert row in said


@pytest.mark.parametrize("command", [[], ["generate"], ["doctor"]])
def test_help_names_the_exit_codes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(code in said for code in ("0 done", "2 input", "3 this", "4 rendering", "130"))
