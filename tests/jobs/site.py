"""A host with real jobs of the tiny model, its engines, and what they may leave behind."""

import shutil
from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.host import LocalHost
from infinitetalk.jobs.model import Job
from infinitetalk.spec import GenerationSpec, specify
from tests.jobs.interfering import is_paused
from tests.jobs.nursery import EngineProcess, Nursery
from tests.jobs.records import ENOUGH, a_job
from tests.jobs.waiting import until

SPEC = specify("tiny", prompt="a secret wish")
SECONDS = 2.5
WINDOWS = 3  # of so many seconds


class Site:
    """A host, its engines, and what they may leave behind."""

    def __init__(self, folder: Path, home: Path, nursery: Nursery, job: JobFolder) -> None:
        self.data = folder / "data"
        self.host = LocalHost.open(Settings(data=self.data))
        self._folder = folder
        self._home = home
        self._nursery = nursery
        self._input = job
        self.engines: list[EngineProcess] = []

    def submit(self, spec: GenerationSpec = SPEC) -> Job:
        job = a_job(spec=spec, seconds=SECONDS)
        with self.host.blobs.staging() as staging:
            shutil.copytree(self._input.root, staging / "job")
            self.host.blobs.adopt(JobFolder(staging / "job"), job.id)
        return self.host.store.add(job, limit=ENOUGH)

    def engine(self, preset: str = "tiny", grace_s: float = 19.0, **settings: str) -> EngineProcess:
        environment = {
            "INFINITETALK_HOME": str(self._home),
            "INFINITETALK_DATA": str(self.data),
            "INFINITETALK_DEVICE": "cpu",
            **{f"INFINITETALK_{name.upper()}": value for name, value in settings.items()},
        }
        folder = self._folder / f"engine-{len(self.engines)}"
        engine = self._nursery.start(folder, environment, preset=preset, grace_s=grace_s)
        self.engines.append(engine)
        return engine

    def row(self, job: Job) -> Job:
        return self.host.store.get(job.id)

    def folder(self, job: Job) -> JobFolder:
        return self.host.blobs.folder(job.id)

    def until_ended(self, job: Job) -> Job:
        until(lambda: self.row(job).status.is_terminal or self.engines[-1].has_ended)
        return self.row(job)

    def until_paused(self) -> None:
        until(lambda: is_paused(self.data))

    def state(self) -> EngineState | None:
        engines = self.host.engines.all()
        return engines[0].state if engines else None

    def close(self) -> None:
        for engine in self.engines:
            engine.kill()
        self.host.close()
