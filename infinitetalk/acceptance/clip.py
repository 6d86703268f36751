"""A clip of the bundled portrait and sentence, rendered by the deployment's own runner and timed.

The clip is an ordinary job in an ordinary folder; its times come from the progress it reports.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import soundfile

from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.acceptance.report import Figure, Verdict
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import Result, Runner
from infinitetalk.sampling.guidance import branches
from infinitetalk.spec import FPS, GenerationSpec

Moment = tuple[float, Progress]
"""A clock's seconds, and what began then."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered clip and where its seconds went."""

    job: JobFolder
    result: Result
    seconds: float  # all of it
    first_step_s: float  # until the first denoising step began
    stages: dict[Stage, float]
    windows: tuple[float, ...]
    attempts: int  # at windows: more than there are when the attention backend broke one
    forwards: int

    @property
    def per_video_second(self) -> float:
        """Seconds of the device for one of video."""
        return self.seconds / self.result.duration_s

    @property
    def verdict(self) -> Verdict:
        detail = f"{self.result.duration_s:g} s of video in {self.seconds:.1f} s"
        if again := self.attempts - self.result.windows:
            detail += f"; windows that came out broken and were rendered again with SDPA: {again}"
        return Verdict(not again, detail)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (
            Figure("video", self.result.duration_s, "s"),
            Figure("render", self.seconds, "s"),
            *(Figure(f"stage.{stage}", spent, "s") for stage, spent in self.stages.items()),
            *(Figure(f"window.{n}", spent, "s") for n, spent in enumerate(self.windows, 1)),
            Figure("forward", self.stages[Stage.DENOISING] / self.forwards, "s"),
            Figure("gpu_s_per_video_s", self.per_video_second, "s"),
            Figure("realtime_factor", 1 / self.per_video_second, "s of video in 1 s"),
        )


def render_clip(
    runner: Runner,
    spec: GenerationSpec,
    folder: Path,
    settings: Settings,
    *,
    frames: int,
    clock: Clock,
) -> Clip:
    """Make the job and render it.

    Args:
        folder: of the job; made here.
        frames: of the clip.
        clock: waits for the device.

    Raises:
        RenderFailed: rendering went wrong.
        InvalidInput, StorageFull: the job cannot be made.
    """
    job = bundled_job(spec, folder, settings, frames)
    moments: list[Moment] = []
    started = clock()
    result = runner.run(job, spec, on_progress=lambda progress: moments.append((clock(), progress)))
    return _timed(job, spec, result, moments, started, clock())


def bundled_job(spec: GenerationSpec, folder: Path, settings: Settings, frames: int) -> JobFolder:
    """A job of the bundled portrait and sentence, not begun yet.

    Args:
        folder: of the job; made here.
        frames: of its video.

    Raises:
        InvalidInput, StorageFull: the job cannot be made.
    """
    job = JobFolder(folder)
    with _bundled_media(folder.with_suffix(".wav"), frames) as (portrait, speech):
        create_job(job, spec, portrait, [speech], settings)
    return job


@contextmanager
def _bundled_media(speech: Path, frames: int) -> Iterator[tuple[Path, Path]]:
    """The portrait, and the sentence said again and again for so many frames, as `speech`."""
    assets = files("infinitetalk.demo") / "assets"
    with as_file(assets / "portrait.png") as portrait, as_file(assets / "speech.flac") as sentence:
        samples, rate = soundfile.read(sentence, dtype="int16")
        soundfile.write(speech, np.resize(samples, frames * rate // FPS), rate)
        yield portrait, speech


def _timed(
    job: JobFolder,
    spec: GenerationSpec,
    result: Result,
    moments: Sequence[Moment],
    started: float,
    ended: float,
) -> Clip:
    stages: dict[Stage, float] = defaultdict(float)
    windows: dict[int, float] = defaultdict(float)
    ends = [at for at, _ in moments[1:]] + [ended]
    for (began, progress), end in zip(moments, ends, strict=True):
        stages[progress.stage] += end - began
        if progress.window and progress.stage is not Stage.WRITING:
            windows[progress.window] += end - began
    starts = [at for at, p in moments if p.stage is Stage.DENOISING and p.step == 0]
    skipped = max(progress.skipped_steps for _, progress in moments)
    a_step = len(branches(spec.text_guidance, spec.audio_guidance))
    return Clip(
        job,
        result,
        seconds=ended - started,
        first_step_s=starts[0] - started,
        stages=dict(stages),
        windows=tuple(windows[number] for number in sorted(windows)),
        attempts=len(starts),
        forwards=len(starts) * spec.steps * a_step - skipped,
    )
