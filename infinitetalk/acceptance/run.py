"""The acceptance run: every step on one machine, each with its verdict, and the report of them all.

    load -> render a clip -> check its file -> check the weights -> a sweep, if asked for
         -> a forward by its parts -> attention backends

The weights are hashed after the clip: had they been read before, the load would come from memory,
and it is the load of a new machine that is to be known. The forward by its parts is not compiled,
so nothing is rendered after it.
"""

import datetime
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from infinitetalk import __version__
from infinitetalk.acceptance.attention_trial import Trials, attention_trial
from infinitetalk.acceptance.clip import Clip, render_clip
from infinitetalk.acceptance.device_clock import Clock, device_clock, peak_on_device, peak_on_host
from infinitetalk.acceptance.findings import Findings, OnCheck
from infinitetalk.acceptance.forward_parts import time_forward
from infinitetalk.acceptance.loading import Loaded, choose, load, verify_all
from infinitetalk.acceptance.report import Figure, Report
from infinitetalk.acceptance.sweep import GRIDS, SWEEP_FRAMES, Sweep, sweep
from infinitetalk.acceptance.video_checks import (
    check_format,
    check_length,
    check_picture,
    check_sync,
)
from infinitetalk.config import Settings
from infinitetalk.media.image import choose_bucket
from infinitetalk.models.attention import BACKENDS
from infinitetalk.runner import choose_device
from infinitetalk.spec import FPS, GenerationSpec, specify
from infinitetalk.weights.device_memory import GIB
from infinitetalk.weights.locate import Located

VIDEO = "clip.mp4"

Now = Callable[[], datetime.datetime]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run."""

    preset: str
    seconds: float = 6.0  # of the clip
    with_sweep: bool = False

    @property
    def frames(self) -> int:
        return round(self.seconds * FPS)


def accept(
    plan: Plan,
    settings: Settings,
    output: Path,
    *,
    started: float,
    price_per_second: float | None = None,
    on_check: OnCheck = lambda _: None,
    monotonic: Clock = time.monotonic,
    now: Now = lambda: datetime.datetime.now(datetime.UTC),
) -> Report:
    """Take every step on this machine; one that fails is a failed check, and the run goes on.

    Args:
        output: a folder that is there, for the clip, and the videos and the sheet of a sweep.
        started: when this process did, by `monotonic`.
        price_per_second: of this machine in US dollars; None reports no price.
        on_check: told of every verdict as soon as it is there.

    Raises:
        InvalidField: there is no such preset.
        DeviceUnavailable, DeviceTooSmall: the settings do not fit this machine.
        WeightsMissing, WeightsCorrupt: there are no weights to begin with.
    """
    device = choose_device(settings.device)
    weights = choose(plan.preset, settings, device)
    clock = device_clock(device, monotonic)
    findings = Findings(on_check)
    with tempfile.TemporaryDirectory() as scratch:
        bench = _Bench(plan, settings, device, weights, clock, findings, Path(scratch), output)
        loaded = bench.load(started)
        if loaded is not None:
            bench.render(loaded, price_per_second)
        findings.judge("weights", lambda: verify_all(weights, settings))
        swept = bench.sweep(loaded) if loaded is not None and plan.with_sweep else None
        trials = bench.look_inside(loaded) if loaded is not None else None
    return Report(
        date=now().isoformat(timespec="seconds"),
        engine=__version__,
        torch=torch.__version__,
        device=_device_name(device),
        preset=plan.preset,
        resolution=bench.spec.resolution,
        weights=weights.folder.name,
        fingerprint=weights.manifest.fingerprint,
        checks=tuple(findings.checks),
        figures=tuple(findings.figures),
        attention=trials.rows if trials is not None else (),
        sweep=swept.cells if swept is not None else (),
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """One machine, and what all steps share."""

    plan: Plan
    settings: Settings
    device: torch.device
    weights: Located
    clock: Clock
    findings: Findings
    scratch: Path
    output: Path

    @property
    def spec(self) -> GenerationSpec:
        return specify(self.plan.preset)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the clip: the portrait is square."""
        return choose_bucket(1, 1, self.spec.buckets)

    def load(self, started: float) -> Loaded | None:
        return self.findings.measure(
            "load", lambda: load(self.weights, self.settings, self.device, started, self.clock)
        )

    def render(self, loaded: Loaded, price_per_second: float | None) -> None:
        """The clip, what it took, and its file."""
        clip = self.findings.measure("render", lambda: self._kept_clip(loaded))
        if clip is None:
            return
        self.findings.figures.extend(self._costs(loaded, clip, price_per_second))
        video, frames = clip.result.path, self.plan.frames
        self.findings.judge("format", lambda: check_format(video))
        self.findings.judge("length", lambda: check_length(video, frames))
        self.findings.judge("sound in sync", lambda: check_sync(video, clip.job.speech(1)))
        self.findings.judge("picture", lambda: check_picture(video, frames))

    def look_inside(self, loaded: Loaded) -> Trials | None:
        """A forward by its parts, and the attention backends."""
        model, frames, in_use = loaded.model, self.spec.window, loaded.runner.attention
        self.findings.measure(
            "forward",
            lambda: time_forward(model, frames, self.size, BACKENDS[in_use], self.clock),
        )
        return self.findings.measure(
            "attention",
            lambda: attention_trial(model.transformer, frames, self.size, in_use, self.clock),
        )

    def sweep(self, loaded: Loaded) -> Sweep | None:
        def render(spec: GenerationSpec, name: str) -> tuple[Path, float]:
            clip = self._clip(loaded, spec, name, SWEEP_FRAMES)
            return clip.result.path, clip.seconds

        preset = self.plan.preset
        return self.findings.measure(
            "sweep", lambda: sweep(preset, GRIDS[preset], render, self.output)
        )

    def _kept_clip(self, loaded: Loaded) -> Clip:
        clip = self._clip(loaded, self.spec, "clip", self.plan.frames)
        shutil.copyfile(clip.result.path, self.output / VIDEO)
        return clip

    def _clip(self, loaded: Loaded, spec: GenerationSpec, name: str, frames: int) -> Clip:
        folder = self.scratch / name
        return render_clip(
            loaded.runner, spec, folder, self.settings, frames=frames, clock=self.clock
        )

    def _costs(
        self, loaded: Loaded, clip: Clip, price_per_second: float | None
    ) -> Iterator[Figure]:
        yield Figure("cold_start", loaded.since_start_s + clip.first_step_s, "s")
        if price_per_second is not None:
            price = clip.per_video_second * 60 * price_per_second
            yield Figure("usd_per_video_minute", price, "USD")
        if (peak := peak_on_device(self.device)) is not None:
            yield Figure("peak_device_memory", peak / GIB, "GiB")
        yield Figure("peak_host_memory", peak_on_host() / GIB, "GiB")


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
