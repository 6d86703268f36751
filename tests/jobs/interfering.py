"""The true runner, with something that happens once, at one moment of a job.

A test writes the moment into the data folder; the first engine that gets there removes it.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.progress import Canceling, OnProgress, Progress
from infinitetalk.runner import Result, Runner
from infinitetalk.spec import GenerationSpec

CUDA_FAULT = "CUDA error: an illegal memory access was encountered"
START, END = "start", "end"  # before the first word of a rendering, and after the last


@dataclass(frozen=True)
class Moment:
    """When something happens: a stage, and where it repeats its window and step."""

    stage: str
    window: int = 0
    step: int = 0

    def plan(self, data: Path, deed: str) -> None:
        """Make the next engine `pause` or have a `fault` then."""
        _plan(data).write_text(json.dumps({"deed": deed, **asdict(self)}))


def is_paused(data: Path) -> bool:
    """Whether an engine waits in its moment for `release`."""
    return (data / "paused").exists()


def release(data: Path) -> None:
    (data / "paused").unlink()


def _plan(data: Path) -> Path:
    return data / "moment.json"


def load_interfering(preset: str, settings: Settings) -> "InterferingRunner":
    return InterferingRunner(Runner.load(preset, settings), settings.data_folder)


class InterferingRunner:
    """A runner that keeps an appointment."""

    def __init__(self, runner: Runner, data: Path) -> None:
        self._runner = runner
        self._data = data

    @property
    def preset(self) -> str:
        return self._runner.preset

    @property
    def resolutions(self) -> tuple[str, ...]:
        return self._runner.resolutions

    @property
    def speakers(self) -> int:
        return self._runner.speakers

    @property
    def attention(self) -> str:
        return self._runner.attention

    @property
    def gpu(self) -> str | None:
        return self._runner.gpu

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str],
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Result:
        def show(progress: Progress) -> None:
            on_progress(progress)
            self._meet(Moment(progress.stage, progress.window, progress.step))

        self._meet(Moment(START))
        result = self._runner.run(
            folder, spec, labels=labels, on_progress=show, canceling=canceling
        )
        self._meet(Moment(END))
        return result

    def _meet(self, moment: Moment) -> None:
        plan = _plan(self._data)
        if not plan.exists():
            return
        planned: dict[str, Any] = json.loads(plan.read_text())
        deed = planned.pop("deed")
        if Moment(**planned) != moment:
            return
        plan.unlink()
        if deed == "fault":
            raise RuntimeError(CUDA_FAULT)
        (self._data / "paused").touch()
        while is_paused(self._data):
            time.sleep(0.005)
