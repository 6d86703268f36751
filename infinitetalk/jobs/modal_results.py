"""Finished videos of a fleet on the disk of this container, checked when they arrive.

That the caller may see the video is not asked here.
"""

import hashlib
from pathlib import Path

from infinitetalk.errors import JobExpired, StoreCorrupt
from infinitetalk.jobs.modal_disk import DiskCache
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.model import Video

TRIES = 2  # a transfer may be broken; the second one is broken where it comes from


class ResultCache:
    """Local copies of videos, by job and content."""

    def __init__(self, files: VolumeFiles, folder: Path, limit_bytes: int) -> None:
        self._files = files
        self._disk = DiskCache(folder, limit_bytes)

    def get(self, job_id: str, video: Video, remote: str) -> Path:
        """A whole local file of a video that is at `remote`; callers at once fetch it once.

        Raises:
            JobExpired: it is not there any more.
            StoreCorrupt: what is there is not this video.
            StoreBusy: the Volume cannot be reached.
            StorageFull: the disk has no room.
        """
        name = f"{job_id}.{video.sha256}.mp4"
        return self._disk.get(name, lambda target: self._fetch(target, video, remote))

    def forget(self, job_id: str) -> None:
        """Delete the copies of a job."""
        self._disk.forget(job_id)

    def _fetch(self, target: Path, video: Video, remote: str) -> None:
        try:
            for _ in range(TRIES):
                self._files.fetch({remote: target})
                if _is(target, video):
                    return
        except FileNotFoundError:
            raise JobExpired("This job was erased, or its time is over.") from None
        raise StoreCorrupt("The video of this job is damaged.")


def _is(path: Path, video: Video) -> bool:
    if path.stat().st_size != video.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == video.sha256
