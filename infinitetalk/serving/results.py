"""What a job gives when its result is asked for: the video, or why there is none.

The video is streamed from its file with ETag, Range and HEAD; its sha256 is its ETag.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from infinitetalk.errors import Canceled, JobNotFinished
from infinitetalk.jobs.model import Job, Status
from infinitetalk.serving.replies import problem_reply

Fetch = Callable[[Job], Awaitable[Path]]
"""The video of a completed job as a file of this host."""


def ended_badly(request: Request, job: Job) -> Response | None:
    """The answer for a job that has no video and never will.

    Raises:
        Canceled: the caller did not want it.
    """
    if job.status is Status.CANCELED:
        raise Canceled("This job was canceled.")
    return None if job.error is None else problem_reply(request, job.error)


async def result_reply(request: Request, job: Job, fetch: Fetch) -> Response:
    """The answer for a job in any state.

    Raises:
        JobNotFinished, Canceled: there is no result.
        JobExpired: the file is gone.
    """
    if ended := ended_badly(request, job):
        return ended
    if job.result is None:
        raise JobNotFinished(f"task {job.id} is not completed yet")
    etag = f'"{job.result.sha256}"'
    headers = {"etag": etag, "cache-control": "private, immutable, max-age=86400"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    video = await fetch(job)
    return FileResponse(video, 200, headers, "video/mp4", filename=f"{job.id}.mp4")
