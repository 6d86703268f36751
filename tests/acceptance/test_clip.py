"""A clip and where its time went."""

from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.acceptance.clip import Clip, render_clip
from infinitetalk.acceptance.loading import Loaded
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.progress import Stage
from infinitetalk.runner import Result
from infinitetalk.spec import specify
from tests.acceptance.subjects import Ticks

CLIP = Clip(
    job=JobFolder(Path("job")),
    result=Result(Path("job/result.mp4"), frames=150, windows=2, resumed_at=0),
    seconds=60.0,
    first_step_s=4.0,
    stages={Stage.ENCODING: 10.0, Stage.DENOISING: 32.0, Stage.DECODING: 18.0},
    windows=(35.0, 25.0),
    attempts=2,
    forwards=16,
)


def figures_of(clip: Clip) -> dict[str, float]:
    return {figure.name: figure.value for figure in clip.figures}


def test_figures_are_counted_for_a_forward_and_for_a_second_of_video() -> None:
    figures = figures_of(CLIP)
    assert figures["forward"] == 2.0
    assert figures["gpu_s_per_video_s"] == 10.0
    assert figures["realtime_factor"] == 0.1
    assert (figures["stage.denoising"], figures["window.2"]) == (32.0, 25.0)
    assert CLIP.verdict.passed


def test_a_window_that_had_to_be_rendered_again_fails() -> None:
    verdict = replace(CLIP, attempts=3).verdict
    assert not verdict.passed
    assert "rendered again with SDPA: 1" in verdict.detail


def test_a_clip_is_as_long_as_wished_and_says_its_sentence_again(
    tiny: Loaded, settings: Settings, tmp_path: Path, ticks: Ticks
) -> None:
    spec = specify("tiny", steps=3, audio_guidance=2.0)
    clip = render_clip(tiny.runner, spec, tmp_path / "job", settings, frames=135, clock=ticks)
    assert clip.result.frames == 135
    assert clip.forwards == clip.result.windows * 3 * 2
    assert len(clip.windows) == clip.attempts == clip.result.windows == 5
    with SpeechFile(clip.job.speech(1)) as speech:
        again = speech.read(round(4.7 * SPEECH_RATE), speech.samples)
    assert speech.samples == pytest.approx(5.4 * SPEECH_RATE, abs=1)
    assert abs(again).max() > 0.1


def test_every_second_belongs_to_a_stage_and_a_window(
    tiny: Loaded, settings: Settings, tmp_path: Path, ticks: Ticks
) -> None:
    """Each window reads the clock at encoding, denoising, its two steps and decoding."""
    spec = specify("tiny")
    clip = render_clip(tiny.runner, spec, tmp_path / "job", settings, frames=50, clock=ticks)
    assert clip.windows == (5.0, 5.0)
    assert clip.stages == {
        Stage.ENCODING: 3.0,  # the texts, then each window
        Stage.DENOISING: 6.0,
        Stage.DECODING: 2.0,
        Stage.WRITING: 1.0,
    }
    assert clip.seconds == 13.0  # and one before the first stage
    assert clip.first_step_s == 3.0
