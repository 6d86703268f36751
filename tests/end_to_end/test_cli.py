"""The command as a person uses it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.spec import specify
from infinitetalk.weights.synthetic import model_config
from tests.end_to_end.reading import read_video
from tests.weights.prepared_models import announce

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
    assert said.count("Weights: ") == 1 and "weights/tiny-" in said
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


def test_an_interrupted_run_says_how_to_go_on_and_does(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "video.mp4"
    folder = JobFolder(tmp_path / "video.mp4.job")
    command = _command(portrait, make_speech(60.0, rate=16000, channels=1), output)
    process = _start(command)
    _wait_for(folder.fragment(2))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Stopping" in said
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
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "(canceled)" in said
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
        ("INFINITETALK_MEMORY_GIGABYTES", "0.001", "device_too_small"),
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


def test_a_home_that_cannot_be_written_is_the_machines_fault(
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    monkeypatch.setenv("INFINITETALK_HOME", str(home))
    assert main(_command(portrait, make_speech(0.4), tmp_path / "video.mp4")) == 3
    assert "(weights_missing)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert main(["doctor"]) == 3
    assert "cannot be written" in " ".join(capsys.readouterr().out.split())


def test_a_fault_of_ours_is_one_line_and_a_stack_with_debug(
    portrait: Path,
    make_speech: Make,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = JobFolder(tmp_path / "video.mp4.job")
    create_job(folder, specify("tiny"), portrait, [make_speech(0.4)], settings)
    folder.job.write_text(folder.job.read_text().replace('"steps": 2', '"steps": "two"'))
    command = ["generate", "--resume", str(folder.root)]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.strip().endswith("(internal)") and "Traceback" not in said
    assert main([*command, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_folder_that_is_not_ours_is_never_touched(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "video.mp4.job" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("precious")
    for scene in (portrait, tmp_path / "missing.png"):
        assert main(_command(scene, make_speech(0.4), tmp_path / "video.mp4")) == 2
    assert "in the way" in capsys.readouterr().err
    assert notes.read_text() == "precious"


def test_what_a_killed_start_left_is_used_again(
    portrait: Path, make_speech: Make, tmp_path: Path
) -> None:
    folder = JobFolder(tmp_path / "video.mp4.job")
    (folder.root / "input").mkdir(parents=True)
    folder.picture.write_bytes(b"half")
    folder.lock.touch()
    assert main(_command(portrait, make_speech(0.4), tmp_path / "video.mp4")) == 0


@pytest.mark.parametrize("role", ["image", "audio"])
def test_an_input_is_never_overwritten(
    role: str,
    portrait: Path,
    make_speech: Make,
    convert: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film = convert(portrait, tmp_path / "film.mp4", "-pix_fmt", "yuv420p")
    content = film.read_bytes()
    files = {"image": portrait, "audio": make_speech(0.4), role: film}
    assert main(_command(files["image"], files["audio"], film)) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert film.read_bytes() == content


def test_two_runs_at_once_with_one_output_do_not_harm_each_other(
    portrait: Path, make_speech: Make, tmp_path: Path
) -> None:
    command = _command(portrait, make_speech(4.0), tmp_path / "video.mp4")
    runs = [_start(command), _start(command)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes == [0, 2], said
    assert len(read_video(tmp_path / "video.mp4").frames) == 100


def test_boxes_that_miss_what_is_rendered_are_refused_at_once_and_can_be_corrected(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = ["--audio-2", str(make_speech(0.4, seed=2))]
    command = _command(portrait, make_speech(0.4), tmp_path / "video.mp4", *second)
    assert main([*command, "--box", "3,3,10,10", "--box", "20,85,140,155"]) == 2
    assert "Box 1 covers nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    halves = ["--box", "0,0,160,80", "--box", "0,80,160,160"]
    assert main([*command, *halves]) == 0, "two halves leave no background, and need none"


def test_a_resumed_run_cannot_be_changed(
    portrait: Path,
    make_speech: Make,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = JobFolder(tmp_path / "video.mp4.job")
    create_job(folder, specify("tiny"), portrait, [make_speech(0.4)], settings)
    for option, value in (("--steps", "1"), ("--seed", "0"), ("--text-guidance", "0")):
        assert main(["generate", "--resume", str(folder.root), option, value]) == 2
        assert option in capsys.readouterr().err
    assert folder.job.exists()


def test_what_is_no_scene_is_named_so(
    make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    animation = tmp_path / "face.gif"
    Image.new("RGB", (64, 64)).save(animation)
    assert main(_command(animation, make_speech(0.4), tmp_path / "video.mp4")) == 2
    assert "no JPEG, PNG or WebP picture and no video" in capsys.readouterr().err
    assert main(_command(tmp_path, make_speech(0.4), tmp_path / "video.mp4")) == 2
    assert "is a folder" in capsys.readouterr().err


def test_doctor_describes_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for row in ("torch", "device cpu", "attention sdpa", "preset tiny", "ffmpeg", "memory demo"):
        assert row in said


def test_doctor_times_a_start_by_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFINITETALK_PRESET", "tiny")
    assert main(["doctor", "--time"]) == 0
    said = capsys.readouterr().out
    assert "start of tiny" in said
    seconds = dict(re.findall(r"│ (.+?) +│ +([\d.]+) │", said))
    assert list(seconds)[-3:] == ["first step", "to the first step", "to its end"]
    *parts, until, end = map(float, seconds.values())
    assert sum(parts) == pytest.approx(end, abs=0.1)
    assert until == pytest.approx(end - parts[-1], abs=0.02)


def test_doctor_tells_what_each_preset_needs_and_which_command_makes_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(tmp_path / "weights", "standard", "fp8", speakers=1)
    (announce(tmp_path / "weights", "best") / "model.json").unlink()
    monkeypatch.setenv("INFINITETALK_HOME", str(tmp_path))
    monkeypatch.setenv("INFINITETALK_MEMORY_GIGABYTES", "1")
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["doctor"]) == 3, "the weights of best are damaged"
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    def row(what: str) -> str:
        (found,) = (line for line in rows if line.startswith(f"│ {what} │"))
        return found

    assert "fp8, speakers: 1" in row("preset standard")
    assert "`infinitetalk weights prepare --preset fast`" in row("preset fast")
    for name in ("standard 480p", "standard 720p"):
        assert "missing │ fp8, everything resident:" in row(f"memory {name}")
        assert "does not fit in 1.0 GiB" in row(f"memory {name}")
    assert "fits in 1.0 GiB" in row("memory tiny 48p")
    assert "bad │ model.json of best-bf16-1 is unreadable" in row("memory best")


@pytest.mark.parametrize(
    ("voices", "setting", "said"),
    [
        (1, "auto", "standard-fp8-1/"),
        (2, "auto", "standard-fp8-2/"),
        (1, "2", "standard-fp8-2/"),
        (2, "1", "For two, set INFINITETALK_SPEAKERS=2"),
    ],
)
def test_generate_takes_the_weights_for_so_many_voices_also_when_it_goes_on(
    voices: int,
    setting: str,
    said: str,
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of weights that say what they are and hold nothing: the refusal names the folder."""
    for speakers in (1, 2):
        announce(tmp_path / "weights", "standard", "fp8", speakers, model_config("tiny"))
    monkeypatch.setenv("INFINITETALK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("INFINITETALK_SPEAKERS", setting)
    speeches = [make_speech(0.4, seed=number) for number in range(voices)]
    second = ["--audio-2", str(speeches[1])] if voices == 2 else []
    command = _command(portrait, speeches[0], tmp_path / "v.mp4", "--preset", "standard", *second)
    assert main(command) != 0
    assert said in capsys.readouterr().err

    folder = JobFolder(tmp_path / "begun.mp4.job")
    create_job(folder, specify("standard"), portrait, speeches, Settings())
    assert main(["generate", "--resume", str(folder.root)]) != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["generate"], ["doctor"]])
def test_help_names_the_exit_codes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(code in said for code in ("0 done", "2 input", "3 this", "4 rendering", "130"))
