"""Files of jobs on a Modal Volume: the gateway, the intake and the GPU containers share them.

    /jobs/<id>/...              what a `JobFolder` holds, but its lock and its unfinished files
    /jobs/<id>/<sha256>.mp4     the video, by its content
    /staging/<id>/...           files as they were sent, until the intake has taken them

A job is there when its job.json is, which is put there last: a container may be killed anywhere.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import modal

from infinitetalk.errors import JobExpired, StoreBusy
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.modal_copies import (
    GONE,
    INPUT,
    JobCopies,
    expiring,
    fetch_parts,
    job_path,
    video_path,
)
from infinitetalk.jobs.modal_files import Entry, VolumeFiles
from infinitetalk.jobs.modal_results import ResultCache
from infinitetalk.jobs.modal_windows import WindowCache
from infinitetalk.jobs.model import Job, new_id

CACHE_BYTES = 20 * 10**9


class VolumeBlobStore:
    """Files on a Volume; `scratch` is a local folder that belongs to this process.

    Every method raises StoreBusy when Modal cannot be reached.
    """

    def __init__(self, volume: modal.Volume, scratch: Path, cache_bytes: int = CACHE_BYTES) -> None:
        self._files = VolumeFiles(volume)
        self._copies = JobCopies(self._files, scratch)
        self._results = ResultCache(self._files, scratch / "results", cache_bytes)
        self._windows = WindowCache(self._files, scratch / "windows", cache_bytes)
        self._staging = scratch / "staging"
        self._staging.mkdir(exist_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        folder = self._staging / new_id()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, staged: JobFolder, job_id: str) -> None:
        """Upload a staged folder; one that is not on this disk was uploaded by the intake."""
        if staged.root.is_dir():
            self._files.put(_closed_files(staged, job_id))
            self._files.put({job_path(job_id, staged.job.name): staged.job})
        elif not self._is_there(job_id):
            raise StoreBusy("The files of this request did not arrive, try again.")

    def folder(self, job_id: str) -> JobFolder:
        """A fresh local copy; `release` removes it.

        Raises:
            JobExpired: the files are gone.
        """
        return self._copies.make(job_id)

    def publish(self, job_id: str) -> None:
        """Upload what was finished in the local copy since the last time; the engine may go on."""
        self._copies.publish(job_id)

    def release(self, job_id: str) -> None:
        """Forget the local copy: the job is not worked on here any more."""
        self._copies.remove(job_id)

    def result(self, job: Job) -> Path:
        """The video of a completed job; it stays here until others fill the cache."""
        assert job.result is not None
        return self._results.get(job.id, job.result, video_path(job.id, job.result.sha256))

    def windows(self, job: Job) -> int:
        return self._windows.count(job)

    def window(self, job: Job, index: int) -> tuple[Path, Path]:
        names = JobFolder(Path())
        paths = names.fragment(index), names.encoded_sound
        pictures, sound = (self._windows.get(job.id, path.name) for path in paths)
        return pictures, sound

    def copy_input(self, job_id: str, target: JobFolder) -> None:
        fetch_parts(self._files, job_id, target, INPUT)

    def erase(self, job_id: str) -> None:
        self._copies.remove(job_id)  # first: it may be on its way to the Volume
        self._files.remove(job_path(job_id))
        self._results.forget(job_id)
        self._windows.forget(job_id)

    def ids(self) -> Iterator[str]:
        return (_name(entry) for entry in self._files.entries("/jobs"))

    def size_bytes(self, job_id: str) -> int:
        return sum(entry.size_bytes for entry in self._all(job_id))

    def free_bytes(self) -> int:
        """Of the local disk; a Volume has no limit."""
        return self._copies.free_bytes()

    def age_s(self, job_id: str, now: float) -> float:
        return _age_s(self._all(job_id), now)

    def clean(self, now: float, after_s: float) -> None:
        """Delete what was sent and no intake took; local folders went with their containers."""
        for folder in self._files.entries("/staging"):
            inside = self._files.entries(folder.path, recursive=True)
            if _age_s([folder, *inside], now) > after_s:
                self._files.remove(folder.path)

    def send(self, job_id: str, files: Mapping[str, Path]) -> None:
        """Leave files as they were sent for the intake, under the given names."""
        self._files.put({_sent(job_id, name): path for name, path in files.items()})

    def fetch(self, job_id: str, folder: Path) -> list[Path]:
        """The files that `send` left, now in a local folder, in the order of their names.

        Raises:
            JobExpired: there are none.
        """
        sent = {entry.path: folder / _name(entry) for entry in self._files.entries(_sent(job_id))}
        if not sent:
            raise JobExpired(GONE)
        with expiring():
            self._files.fetch(sent)
        return sorted(sent.values())

    def drop(self, job_id: str) -> None:
        """Delete what `send` left."""
        self._files.remove(_sent(job_id))

    def _all(self, job_id: str) -> list[Entry]:
        return self._files.entries(job_path(job_id), recursive=True)

    def _is_there(self, job_id: str) -> bool:
        return any(_name(entry) == "job.json" for entry in self._files.entries(job_path(job_id)))


def _closed_files(staged: JobFolder, job_id: str) -> dict[str, Path]:
    """What a staged folder holds, but its description, its lock and unfinished files."""
    left_out = (staged.job, staged.lock)
    return {
        job_path(job_id, path.relative_to(staged.root).as_posix()): path
        for path in staged.root.rglob("*")
        if path.is_file() and path not in left_out and path.suffix != ".part"
    }


def _sent(job_id: str, *names: str) -> str:
    return "/".join(("/staging", job_id, *names))


def _name(entry: Entry) -> str:
    return entry.path.rpartition("/")[2]


def _age_s(entries: Iterable[Entry], now: float) -> float:
    """Seconds since the newest was put there; 0 when there is none, or by a clock ahead of ours."""
    return max(0.0, now - max((entry.modified_at for entry in entries), default=now))
