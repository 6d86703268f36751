"""A killed job continues with its next window, and nobody can tell from the result."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch

from infinitetalk.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from infinitetalk.cli import main
from infinitetalk.config import Settings
from infinitetalk.errors import Canceled, InvalidInput, JobBusy, OutOfMemory
from infinitetalk.jobfolder import JobFolder, create_job, locked, read_job
from infinitetalk.progress import Progress
from infinitetalk.runner import Runner
from infinitetalk.spec import specify
from tests.end_to_end.reading import read_video

Make = Callable[..., Path]
SECONDS = 4.0  # 4 windows
SPEC = specify("tiny", audio_guidance=2.0)


@pytest.fixture(scope="module")
def uninterrupted(
    tiny: Runner,
    portrait: Path,
    make_speech: Make,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> np.ndarray:
    """Decoded frames of the job that nobody disturbed."""
    folder = JobFolder(tmp_path_factory.mktemp("whole") / "job")
    create_job(folder, SPEC, portrait, [make_speech(SECONDS)], settings)
    return read_video(tiny.run(folder, SPEC).path).frames


@pytest.fixture
def folder(tmp_path: Path, portrait: Path, make_speech: Make, settings: Settings) -> JobFolder:
    """A new job, not yet begun."""
    folder = JobFolder(tmp_path / "video.mp4.job")
    create_job(folder, SPEC, portrait, [make_speech(SECONDS)], settings)
    return folder


class CancelAt:
    """Cancels once so many steps of the job are reported done; give it both callbacks."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.seen: list[Progress] = []

    def show(self, progress: Progress) -> None:
        self.seen.append(progress)

    def __call__(self) -> bool:
        steps = {(p.window, p.step) for p in self.seen if p.step}
        return len(steps) >= self._steps


def _cancel(runner: Runner, folder: JobFolder, steps: int) -> list[Progress]:
    cancel = CancelAt(steps)
    with pytest.raises(Canceled):
        runner.run(folder, SPEC, on_progress=cancel.show, canceling=cancel)
    return cancel.seen


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 8])
def test_a_canceled_job_continues_to_the_same_frames(
    steps: int, tiny: Runner, folder: JobFolder, uninterrupted: np.ndarray
) -> None:
    """Steps 2, 4, ... are a window's last: the cancel then comes while it is decoded."""
    _cancel(tiny, folder, steps)
    watched = {path: path.read_bytes() for path in (folder.root / "fragments").iterdir()}
    result = tiny.run(folder, SPEC)
    assert {path: path.read_bytes() for path in watched} == watched
    assert result.resumed_at == max(0, steps - 1) // SPEC.steps
    assert np.array_equal(read_video(result.path).frames, uninterrupted)


def test_cancel_ends_within_one_step(tiny: Runner, folder: JobFolder) -> None:
    seen = _cancel(tiny, folder, 3)
    assert max((p.window, p.step) for p in seen) == (2, 1)


@pytest.mark.parametrize("finished", [1, 3])
def test_kill_9_and_resume_by_the_command(
    finished: int,
    folder: JobFolder,
    uninterrupted: np.ndarray,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is killed as soon as so many windows are on the disk."""
    _kill_when(folder, settings, lambda: folder.fragment(finished).exists())
    assert not folder.result.exists()
    monkeypatch.setenv("INFINITETALK_HOME", str(settings.home))
    output = folder.root.with_suffix("")
    assert main(["generate", "--resume", str(folder.root)]) == 0
    assert np.array_equal(read_video(output).frames, uninterrupted)
    assert not folder.root.exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_kill_9_at_any_moment(
    moment: int, folder: JobFolder, uninterrupted: np.ndarray, settings: Settings, tiny: Runner
) -> None:
    """From the start of rendering on, every 0.1 s; the last ones come when the job is done."""
    begun: list[float] = []

    def is_time() -> bool:
        if not begun and (folder.root / "lock").exists():
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] > moment * 0.1

    done = _kill_when(folder, settings, is_time)
    result = done if done.exists() else tiny.run(folder, SPEC).path
    assert np.array_equal(read_video(result).frames, uninterrupted)


def _kill_when(folder: JobFolder, settings: Settings, is_time: Callable[[], bool]) -> Path:
    """Run a job in a process of its own and end it without warning.

    Returns where the video is if the job was done before.
    """
    command = [sys.executable, "-m", "infinitetalk.cli", "generate", "--resume", str(folder.root)]
    environment = {**os.environ, "INFINITETALK_HOME": str(settings.home)}
    done = folder.root.with_name("done.mp4")
    command += ["--output", str(done)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not is_time():
            time.sleep(0.005)
        children = psutil.Process(process.pid).children() if process.poll() is None else []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == [], "ffmpeg outlived the killed process"
    return done


@pytest.mark.parametrize("change", ["spec", "weights", "engine"])
def test_a_checkpoint_of_another_job_starts_again_and_says_so(
    change: str, tiny: Runner, folder: JobFolder, caplog: pytest.LogCaptureFixture
) -> None:
    _cancel(tiny, folder, 5)
    _rewrite_checkpoint(folder, change)
    with caplog.at_level(logging.WARNING):
        result = tiny.run(folder, SPEC)
    assert result.resumed_at == 0
    assert change in caplog.text and "first window" in caplog.text


def _rewrite_checkpoint(folder: JobFolder, change: str) -> None:
    from dataclasses import replace

    from safetensors import safe_open

    from infinitetalk.checkpoint import Identity

    with safe_open(folder.checkpoint, "pt") as file:
        header, motion = file.metadata(), file.get_tensor("motion")
    identity = Identity(header["spec"], header["weights"], header["engine"])
    checkpoint = Checkpoint(int(header["window"]), motion)
    assert load_checkpoint(folder.checkpoint, identity) is not None
    save_checkpoint(folder.checkpoint, checkpoint, replace(identity, **{change: "another"}))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "no fragment"])
def test_a_damaged_checkpoint_never_crashes(
    damage: str,
    tiny: Runner,
    folder: JobFolder,
    uninterrupted: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _cancel(tiny, folder, 5)
    if damage == "no fragment":
        folder.fragment(1).unlink()
    else:
        content = b"no checkpoint" if damage == "garbage" else folder.checkpoint.read_bytes()[:99]
        folder.checkpoint.write_bytes(content)
    result = tiny.run(folder, SPEC)
    assert result.resumed_at == 0 and "first window" in caplog.text
    assert np.array_equal(read_video(result.path).frames, uninterrupted)


def test_two_processes_cannot_render_one_job(tiny: Runner, folder: JobFolder) -> None:
    with locked(folder), pytest.raises(JobBusy, match="Another process"):
        tiny.run(folder, SPEC)


def test_a_job_that_only_lacks_its_result_renders_nothing_again(
    tiny: Runner, folder: JobFolder
) -> None:
    tiny.run(folder, SPEC)
    folder.result.unlink()
    seen: list[Progress] = []
    result = tiny.run(folder, SPEC, on_progress=seen.append)
    assert result.resumed_at == result.windows
    assert {p.stage.value for p in seen} == {"writing"}


def test_a_device_out_of_memory_is_one_failed_run_that_can_be_resumed(
    tiny: Runner, folder: JobFolder, uninterrupted: np.ndarray
) -> None:
    def out_of_memory(progress: Progress) -> None:
        if progress.window == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(OutOfMemory) as failed:
        tiny.run(folder, SPEC, on_progress=out_of_memory)
    assert (failed.value.code, failed.value.retryable) == ("gpu_out_of_memory", True)
    result = tiny.run(folder, SPEC)
    assert result.resumed_at == 2
    assert np.array_equal(read_video(result.path).frames, uninterrupted)


@pytest.mark.parametrize("change", [{"format": 99}, {"spec": {}}, {"spec": None}])
def test_a_job_of_another_version_is_refused(folder: JobFolder, change: dict[str, object]) -> None:
    folder.job.write_text(json.dumps({**json.loads(folder.job.read_text()), **change}))
    with pytest.raises(InvalidInput):
        read_job(folder)


def test_the_video_names_its_job(tiny: Runner, folder: JobFolder) -> None:
    result = tiny.run(folder, SPEC, labels={"job": "0123abcd"})
    with av.open(str(result.path)) as video:
        facts = json.loads(video.metadata["comment"])
    assert (facts["ai_generated"], facts["job"], facts["preset"]) == (True, "0123abcd", "tiny")
    assert facts["version"]
