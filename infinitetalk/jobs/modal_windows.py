"""Finished windows of a fleet's running jobs on the disk of this container, for who watches them.

What a job's record says is asked first: the Volume is listed when a window more than before must be
there by now, and each file is fetched once. A window that a later attempt renders again is shown as
it was seen first.
"""

from pathlib import Path

from infinitetalk.errors import JobExpired
from infinitetalk.jobfolder import JobFolder, watchable
from infinitetalk.jobs.modal_copies import FRAGMENTS, GONE, job_path
from infinitetalk.jobs.modal_disk import DiskCache
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.model import Job


class WindowCache:
    """Local copies of fragments and encoded sound.

    Every method raises StoreBusy when the Volume cannot be reached.
    """

    def __init__(self, files: VolumeFiles, folder: Path, limit_bytes: int) -> None:
        self._files = files
        self._disk = DiskCache(folder, limit_bytes)
        self._counts: dict[str, int] = {}

    def count(self, job: Job) -> int:
        """How many windows of a job are on the Volume, counted from the first, with their sound."""
        known = self._counts.get(job.id, 0)
        if known < _rendered(job):
            known = self._counts[job.id] = self._count(job.id)
        return known

    def get(self, job_id: str, name: str) -> Path:
        """A file among the fragments of a job.

        Raises:
            JobExpired: it is not there any more.
            StorageFull: the disk has no room.
        """
        remote = job_path(job_id, FRAGMENTS, name)

        def fetch(target: Path) -> None:
            try:
                self._files.fetch({remote: target})
            except FileNotFoundError:
                raise JobExpired(GONE) from None

        return self._disk.get(f"{job_id}.{name}", fetch)

    def forget(self, job_id: str) -> None:
        """Delete the copies of a job."""
        self._counts.pop(job_id, None)
        self._disk.forget(job_id)

    def _count(self, job_id: str) -> int:
        there = {entry.path for entry in self._files.entries(job_path(job_id, FRAGMENTS))}
        return watchable(JobFolder(Path(job_path(job_id))), lambda path: str(path) in there)


def _rendered(job: Job) -> int:
    """Windows that an engine has told to be finished."""
    if job.result is not None:
        return job.result.windows
    return max(0, job.progress.window - 1) if job.progress is not None else 0
