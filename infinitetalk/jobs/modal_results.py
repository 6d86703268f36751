"""Finished videos on the disk of this container, fetched from the Volume when they are asked for.

A cache of a bounded size: what was asked for longest ago goes first. Its folder belongs to one
process; that the caller may see the video is not asked here.
"""

import hashlib
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from infinitetalk.errors import JobExpired, StoreCorrupt
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.model import Video

LOCKS = 64  # videos that are fetched at once without one waiting for another
TRIES = 2  # a transfer may be broken; the second one is broken where it comes from


class ResultCache:
    """Local copies of videos, by job and content."""

    def __init__(self, files: VolumeFiles, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = files
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()  # bytes; last asked for comes last
        self._changing = Lock()
        self._fetching = tuple(Lock() for _ in range(LOCKS))

    def get(self, job_id: str, video: Video, remote: str) -> Path:
        """A whole local file of a video that is at `remote`; callers at once fetch it once.

        Raises:
            JobExpired: it is not there any more.
            StoreCorrupt: what is there is not this video.
            StoreBusy: the Volume cannot be reached.
            StorageFull: the disk has no room.
        """
        path = self._folder / f"{job_id}.{video.sha256}.mp4"
        with self._fetching[hash(path.name) % LOCKS]:
            if not self._has(path, video):
                self._fetch(path, video, remote)
        return path

    def forget(self, job_id: str) -> None:
        """Delete the copies of a job."""
        with self._changing:
            for name in [name for name in self._sizes if name.startswith(f"{job_id}.")]:
                self._drop(name)

    def _has(self, path: Path, video: Video) -> bool:
        with self._changing:
            if path.name not in self._sizes or not _has_size(path, video.size_bytes):
                return False
            self._sizes.move_to_end(path.name)
            return True

    def _fetch(self, path: Path, video: Video, remote: str) -> None:
        fetched = path.with_name(f"{path.name}.new")
        try:
            for _ in range(TRIES):
                self._files.fetch({remote: fetched})
                if _is(fetched, video):
                    return self._keep(fetched, path, video.size_bytes)
        except FileNotFoundError:
            raise JobExpired("This job was erased, or its time is over.") from None
        finally:
            fetched.unlink(missing_ok=True)
        raise StoreCorrupt("The video of this job is damaged.")

    def _keep(self, fetched: Path, path: Path, size_bytes: int) -> None:
        with self._changing:
            self._sizes.pop(path.name, None)
            while self._sizes and sum(self._sizes.values()) + size_bytes > self._limit_bytes:
                self._drop(next(iter(self._sizes)))
            fetched.replace(path)
            self._sizes[path.name] = size_bytes

    def _drop(self, name: str) -> None:
        del self._sizes[name]
        (self._folder / name).unlink(missing_ok=True)  # who reads it has it open


def _is(path: Path, video: Video) -> bool:
    if not _has_size(path, video.size_bytes):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == video.sha256


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
