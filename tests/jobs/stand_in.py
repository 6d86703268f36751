"""An engine without a model, for tests of what keeps engines alive; it starts in half a second.

    python -m tests.jobs.stand_in --slot 0 --preset tiny

The prompt of a job says what happens in it, the file `load` in the data folder what happens in
loading.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.errors import Canceled, WeightsMissing
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.worker import leave, main
from infinitetalk.progress import Canceling, OnProgress, Progress, Stage
from infinitetalk.spec import GenerationSpec
from tests.jobs.scripted import CONTENT, Scripted

FOREVER_S = 1000.0


def load(preset: str, settings: Settings) -> "StandIn":
    plan = settings.data_folder / "load"
    deed = plan.read_text() if plan.exists() else ""
    if deed == "fail":
        raise WeightsMissing("There are no weights.")
    if deed == "break":
        raise ZeroDivisionError
    if deed == "hang":
        plan.unlink()  # the next one does not
        time.sleep(FOREVER_S)
    return StandIn(preset)


class StandIn:
    """Does what the prompt says, then leaves a result."""

    resolutions = ("48p",)
    speakers = 2
    attention = "none"
    gpu = None

    def __init__(self, preset: str) -> None:
        self.preset = preset

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str],
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Scripted:
        deeds: Mapping[str, Callable[[], object]] = {
            "poison": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "hang once": lambda: _hang_once(folder.root / "hung"),
            "work until told": lambda: _work(folder.root / "enough", on_progress, canceling),
        }
        on_progress(Progress(Stage.PREPARING))
        if spec.prompt in deeds:
            deeds[spec.prompt]()
        folder.result.write_bytes(CONTENT)
        return Scripted(folder.result)


def _hang_once(trace: Path) -> None:
    if not trace.exists():
        trace.touch()
        time.sleep(FOREVER_S)


def _work(enough: Path, on_progress: OnProgress, canceling: Canceling) -> None:
    step = 0
    while not enough.exists():
        step += 1
        on_progress(Progress(Stage.DENOISING, 1, 1, step, 1000))
        if canceling():
            raise Canceled("The job was canceled.")
        time.sleep(0.02)


if __name__ == "__main__":
    leave(main(load=load))
