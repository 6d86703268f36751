"""What a real CUDA fault does to the jobs of a host: the engine ends, the next one goes on.

A supervised engine works on the GPU; the first attempt at the first job reads outside a tensor on
the device, which leaves the whole CUDA context broken. Nothing is rendered and no ffmpeg needed:
what is shown is how the processes end and begin.

python -m benchmarks.gpu_faults
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.results import record
from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import Canceled
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs import worker
from infinitetalk.jobs.duty import Duty
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.host import LocalHost, supervisor_lock
from infinitetalk.jobs.model import Job, new_id
from infinitetalk.jobs.supervisor import Supervisor
from infinitetalk.progress import Canceling, OnProgress, Progress, Stage
from infinitetalk.spec import GenerationSpec, specify

MODULE = "benchmarks.gpu_faults"
STEPS = 40
SIZE = 8192  # of the matrices that keep the GPU busy
BROKEN_SEED = 666


@dataclass(frozen=True, slots=True)
class Product:
    """What the engine made."""

    path: Path
    frames: int = 1
    windows: int = 1


class Multiplier:
    """A renderer that multiplies matrices, and breaks the device once for the job that asks."""

    preset = "tiny"
    resolutions = ("48p",)
    speakers = 2
    attention = "none"

    @property
    def gpu(self) -> str:
        return torch.cuda.get_device_name()

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str],
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Product:
        matrix = torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16)
        for step in range(1, STEPS + 1):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
            if step == STEPS // 2 and spec.seed == BROKEN_SEED:
                break_device_once(folder)
            torch.cuda.synchronize()
            on_progress(Progress(Stage.DENOISING, 1, 1, step, STEPS, fraction=step / STEPS))
            if canceling():
                raise Canceled("asked to")
        folder.result.write_bytes(matrix[0].float().cpu().numpy().tobytes())
        return Product(folder.result)


def break_device_once(folder: JobFolder) -> None:
    """An index far outside, found on the device itself."""
    mark = folder.root / f"broken-{time.time()}"
    if not list(folder.root.glob("broken-*")):
        mark.touch()
        torch.zeros(4, device="cuda")[torch.tensor([10**6], device="cuda")].sum()


def load(preset: str, settings: Settings) -> Multiplier:
    """Wake the GPU."""
    torch.zeros(1, device="cuda")
    return Multiplier()


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        os.environ["INFINITETALK_DATA"] = data  # for the engine as well
        settings = load_settings()
        host = LocalHost.open(settings)
        command = [sys.executable, "-m", MODULE, "--preset", "tiny", "--slot"]
        supervisor = Supervisor(host, settings, lambda slot: [*command, slot])
        lock = supervisor_lock(settings.data_folder)
        duty = Duty("engines", lock, supervisor.tick, period_s=0.1, at_end=supervisor.close)
        broken, following = add(host, BROKEN_SEED), add(host, 1)
        begun = time.perf_counter()
        duty.start()
        faulted = wait(host, lambda: host.store.get(broken.id).losses == 1) - begun
        ended = wait(host, lambda: not is_alive(host)) - begun
        first = wait(host, lambda: host.store.get(broken.id).status.is_terminal) - begun
        second = wait(host, lambda: host.store.get(following.id).status.is_terminal) - begun
        stopping = time.perf_counter()
        duty.stop()
        rows = [
            ("from start to the fault", f"{faulted:.1f} s"),
            ("from the fault to the last word of its engine", f"{ended - faulted:.1f} s"),
            ("from the fault to the job done by the next engine", f"{first - faulted:.1f} s"),
            ("that job", outcome(host, broken)),
            ("the job after it", f"{outcome(host, following)}, {second - first:.1f} s later"),
            ("stopping the engine", f"{time.perf_counter() - stopping:.1f} s"),
        ]
        host.close()
    record("A real CUDA fault", ("what", "measured"), rows, "A device-side assertion in one job.")


def add(host: LocalHost, seed: int) -> Job:
    """A job with a folder and nothing in it."""
    job = Job(new_id(), specify("tiny", seed=seed), 1.0, time.time())
    with host.blobs.staging() as folder:
        staged = JobFolder(folder / "job")
        staged.root.mkdir()
        host.blobs.adopt(staged, job.id)
    return host.store.add(job, limit=10)


def wait(host: LocalHost, claim: Callable[[], bool]) -> float:
    """When it came true."""
    deadline = time.perf_counter() + 120
    while not claim():
        assert time.perf_counter() < deadline, [host.store.find(), host.engines.all()]
        time.sleep(0.02)
    return time.perf_counter()


def is_alive(host: LocalHost) -> bool:
    """Whether the engine that failed is still there, or another is."""
    return any(engine.state is EngineState.READY for engine in host.engines.all())


def outcome(host: LocalHost, job: Job) -> str:
    now = host.store.get(job.id)
    return f"{now.status}, attempt {now.attempt}, {now.losses} lost"


if __name__ == "__main__":
    if "--slot" in sys.argv:  # an engine process, with the renderer of this module
        worker.leave(worker.main(load=load))
    main()
