"""Local copies of jobs that are kept on a Modal Volume: fetched, worked on, published.

    jobs/<id>/          where the job is worked on
    published/<id>/     hard links to the files of it that the Volume has
    aside/              what is on its way

A file is new when it is not the very one that was linked: files are replaced, never changed. On the
Volume a checkpoint follows the fragments that it counts, whatever is killed when.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from infinitetalk.errors import JobExpired
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.modal_files import VolumeFiles

INPUT, FRAGMENTS = "input", "fragments"
GONE = "The files of this job are gone."


class JobCopies:
    """Copies in a folder that belongs to this process; one is changed at a time."""

    def __init__(self, files: VolumeFiles, scratch: Path) -> None:
        self._files = files
        self._jobs = scratch / "jobs"
        self._published = scratch / "published"
        self._aside = scratch / "aside"
        for folder in (self._jobs, self._published, self._aside):
            folder.mkdir(parents=True, exist_ok=True)
        self._changing = Lock()

    def make(self, job_id: str) -> JobFolder:
        """A fresh copy of what the Volume has of a job, but the video.

        Raises:
            JobExpired: the files are gone.
        """
        with self._changing, TemporaryDirectory(dir=self._aside) as aside:
            copy = JobFolder(Path(aside) / job_id)
            with suppress(FileNotFoundError):  # before the fragments: those it counts are there
                name = copy.checkpoint.name
                self._files.fetch({job_path(job_id, name): copy.checkpoint})
            fetch_parts(self._files, job_id, copy, INPUT, FRAGMENTS)
            self._remove(job_id)
            _link({**_rendered(copy), **_checkpoint(copy)}, self._published / job_id)
            return JobFolder(copy.root.rename(self._jobs / job_id))

    def publish(self, job_id: str) -> None:
        """Upload what was finished in the copy since the last time.

        The engine may go on meanwhile: it replaces files, the links that are uploaded stay.
        """
        copy, published = JobFolder(self._jobs / job_id), self._published / job_id
        with self._changing, TemporaryDirectory(dir=self._aside) as aside:
            checkpoint = _link(_new(_checkpoint(copy), published), Path(aside))  # first, as above
            rendered = _link(_new(_rendered(copy), published), Path(aside))
            for batch in (rendered, checkpoint):
                self._files.put({_remote(job_id, name, path): path for name, path in batch.items()})
                _move(batch, published)

    def remove(self, job_id: str) -> None:
        """Delete a copy; nothing happens when there is none."""
        with self._changing:
            self._remove(job_id)

    def free_bytes(self) -> int:
        """What the disk has room for."""
        return shutil.disk_usage(self._jobs).free

    def _remove(self, job_id: str) -> None:
        for folder in (self._jobs, self._published):
            shutil.rmtree(folder / job_id, ignore_errors=True)


def job_path(job_id: str, *names: str) -> str:
    """Where files of a job are on the Volume."""
    return "/".join(("/jobs", job_id, *names))


def video_path(job_id: str, sha256: str) -> str:
    """Where a video is on the Volume: a fenced-off attempt cannot replace another's."""
    return job_path(job_id, f"{sha256}.mp4")


def fetch_parts(files: VolumeFiles, job_id: str, target: JobFolder, *parts: str) -> None:
    """Download the named folders of a job and its job.json, without which there is no job.

    Raises:
        JobExpired: the files are gone.
    """
    for name in (INPUT, FRAGMENTS):
        (target.root / name).mkdir(parents=True)
    there = [
        entry.path for entry in files.entries(job_path(job_id), recursive=True) if entry.is_file
    ]
    description = job_path(job_id, target.job.name)
    folders = tuple(job_path(job_id, part, "") for part in parts)
    wanted = [path for path in there if path == description or path.startswith(folders)]
    if description not in wanted:
        raise JobExpired(GONE)
    with expiring():
        files.fetch(
            {path: target.root / path.removeprefix(job_path(job_id, "")) for path in wanted}
        )


@contextmanager
def expiring() -> Iterator[None]:
    """What is not on the Volume any more was erased."""
    try:
        yield
    except FileNotFoundError as error:
        raise JobExpired(GONE) from error


def _checkpoint(copy: JobFolder) -> dict[str, Path]:
    return _by_name(copy, copy.checkpoint)


def _rendered(copy: JobFolder) -> dict[str, Path]:
    """Finished windows, their sound, and the video."""
    fragments = sorted((copy.root / FRAGMENTS).glob("*.m4s"))
    return _by_name(copy, *fragments, copy.encoded_sound, copy.result)


def _by_name(copy: JobFolder, *paths: Path) -> dict[str, Path]:
    return {path.relative_to(copy.root).as_posix(): path for path in paths if path.exists()}


def _new(files: Mapping[str, Path], published: Path) -> dict[str, Path]:
    """Those that are not the linked ones."""
    return {
        name: path
        for name, path in files.items()
        if not (published / name).exists() or not path.samefile(published / name)
    }


def _link(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Second names of files as they are now."""
    links = {name: folder / name for name in files}
    for name, link in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        _hold(files[name], link)
    return links


def _hold(path: Path, link: Path) -> None:
    while True:
        try:
            return os.link(path, link)
        except FileNotFoundError:  # found, and replaced before the link was made: the next one then
            if not path.exists():
                raise


def _move(files: Mapping[str, Path], folder: Path) -> None:
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(folder / name)


def _remote(job_id: str, name: str, path: Path) -> str:
    if not name.endswith(".mp4"):
        return job_path(job_id, name)
    with path.open("rb") as file:
        return video_path(job_id, hashlib.file_digest(file, "sha256").hexdigest())
