"""A job as it can be watched before it is done: its playlist and segments, read from its files.

Nothing is decoded, encoded or kept here; the engine is not asked and not slowed down.
"""

from dataclasses import dataclass

from infinitetalk.errors import JobExpired, JobNotFinished, JobNotFound
from infinitetalk.jobs.blobs import BlobStore
from infinitetalk.jobs.model import Job
from infinitetalk.media.segments import EncodedSound, init_segment, media_segment
from infinitetalk.serving.playlist import first_frame, lengths, playlist
from infinitetalk.spec import FPS

RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Preview:
    """The finished windows of a job. Every method blocks.

    Raises, all of them:
        JobNotFinished: what is asked for does not exist yet.
        JobExpired: its files are gone.
    """

    job: Job
    blobs: BlobStore

    def playlist(self) -> str:
        """What there is to watch now."""
        windows = self._windows()
        job = self.job
        frames = job.result.frames if job.result else max(1, round(job.seconds * FPS))
        shown = lengths(windows, frames, job.spec)
        is_complete = job.result is not None and windows >= job.result.windows
        return playlist(shown, job.spec, is_complete=is_complete)

    def init(self) -> bytes:
        """What a player needs before the first segment."""
        return init_segment(*self._read(0))

    def segment(self, window: int) -> bytes:
        """A finished window.

        Raises:
            JobNotFound: the video has no such window.
        """
        fragment, sound = self._read(window)
        return media_segment(fragment, sound, window, first_frame(window, self.job.spec))

    def _windows(self) -> int:
        windows = self.blobs.windows(self.job)
        if windows == 0 and self.job.result is not None:  # as of jobs of versions before this
            raise JobExpired("There is nothing to watch of this job but its video.")
        if windows == 0:
            raise _later("No window of this job is finished yet.")
        return windows

    def _read(self, window: int) -> tuple[bytes, EncodedSound]:
        if window >= self._windows():
            if self.job.result is not None:
                raise JobNotFound("The video of this job has no such window.")
            raise _later("This window is not finished yet.")
        try:
            pictures, sound = self.blobs.window(self.job, window)
            return pictures.read_bytes(), EncodedSound.of(sound)
        except FileNotFoundError:  # erased meanwhile
            raise JobExpired("This job was erased, or its time is over.") from None


def _later(message: str) -> JobNotFinished:
    return JobNotFinished(message, retry_after_s=RETRY_S)
