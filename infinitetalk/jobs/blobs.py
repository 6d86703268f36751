"""Files of jobs: what was sent, what is being made, and the video.

<root>/jobs/<id>/...        a `JobFolder` for every job
<root>/staging/<random>/    requests that are being taken in; nobody was promised anything yet
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from infinitetalk.errors import JobExpired
from infinitetalk.jobfolder import JobFolder, watchable
from infinitetalk.jobs.model import Job, new_id


class BlobStore(Protocol):
    """What the service and the engine ask of a place for files."""

    def staging(self) -> AbstractContextManager[Path]:
        """An empty folder under the name of a job to come, gone with the block."""

    def adopt(self, staged: JobFolder, job_id: str) -> None:
        """Make a filled folder the job's; it survives a power cut from here on."""

    def folder(self, job_id: str) -> JobFolder:
        """Where the job is worked on, and where its files are read."""

    def publish(self, job_id: str) -> None:
        """Make what the engine wrote last to all others."""

    def result(self, job: Job) -> Path:
        """The video of a completed job as a file of this host.

        Raises:
            JobExpired: it is not there any more.
        """

    def windows(self, job: Job) -> int:
        """How many windows of a job can be watched now, counted from the first."""

    def window(self, job: Job, index: int) -> tuple[Path, Path]:
        """The pictures of such a window and the sound of all, as files of this host.

        Raises:
            JobExpired: they are not there any more.
        """

    def copy_input(self, job_id: str, target: JobFolder) -> None:
        """Put the input of a job into a staged folder.

        Raises:
            JobExpired: it is not there any more.
        """

    def erase(self, job_id: str) -> None:
        """Delete every file of a job; nothing happens when there are none."""

    def ids(self) -> Iterator[str]:
        """Jobs that have files."""

    def size_bytes(self, job_id: str) -> int:
        """What the files of a job take up."""

    def free_bytes(self) -> int:
        """What can still be written."""

    def age_s(self, job_id: str, now: float) -> float:
        """Seconds since something was last put into the job's folder."""

    def clean(self, now: float, after_s: float) -> None:
        """Delete what killed processes left of requests older than that."""


class DirectoryBlobStore:
    """Files in a folder of this host."""

    def __init__(self, root: Path) -> None:
        self._jobs = root / "jobs"
        self._staging = root / "staging"
        for folder in (self._jobs, self._staging):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        folder = self._staging / new_id()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, staged: JobFolder, job_id: str) -> None:
        target = self._jobs / job_id
        _sync(staged.root)
        staged.root.rename(target)
        _sync(self._jobs)

    def folder(self, job_id: str) -> JobFolder:
        return JobFolder(self._jobs / job_id)

    def publish(self, job_id: str) -> None:
        """Nothing is to be done: every file was synced under its name."""

    def result(self, job: Job) -> Path:
        path = self.folder(job.id).result
        if not path.is_file():
            raise JobExpired("This job was erased, or its time is over.")
        return path

    def windows(self, job: Job) -> int:
        return watchable(self.folder(job.id))

    def window(self, job: Job, index: int) -> tuple[Path, Path]:
        folder = self.folder(job.id)
        paths = folder.fragment(index), folder.encoded_sound
        if not all(path.is_file() for path in paths):
            raise JobExpired("This job was erased, or its time is over.")
        return paths

    def copy_input(self, job_id: str, target: JobFolder) -> None:
        source, inputs = self.folder(job_id), target.root / "input"
        for folder in (inputs, target.root / "fragments"):
            folder.mkdir(parents=True)
        try:
            for path in (source.root / "input").iterdir():
                os.link(path, inputs / path.name)
            os.link(source.job, target.job)
        except FileNotFoundError:
            raise JobExpired("The files of this job are gone.") from None
        _sync(inputs)

    def erase(self, job_id: str) -> None:
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    def ids(self) -> Iterator[str]:
        return (path.name for path in self._jobs.iterdir())

    def size_bytes(self, job_id: str) -> int:
        return sum(
            _size(Path(folder, name))
            for folder, _, names in os.walk(self._jobs / job_id)
            for name in names
        )

    def free_bytes(self) -> int:
        return shutil.disk_usage(self._jobs).free

    def age_s(self, job_id: str, now: float) -> float:
        return _age_s(self._jobs / job_id, now)

    def clean(self, now: float, after_s: float) -> None:
        for path in self._staging.iterdir():
            if _age_s(path, now) > after_s:
                shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512  # hard links of a retry count twice; that is safe
    except FileNotFoundError:  # it is being worked on
        return 0


def _age_s(path: Path, now: float) -> float:
    """A time to come is of a clock that was turned back: it is set to now, so that it ages."""
    try:
        if path.stat().st_mtime > now:
            os.utime(path, (now, now))
        return now - path.stat().st_mtime
    except FileNotFoundError:  # gone meanwhile
        return 0.0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
