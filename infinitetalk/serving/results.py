"""What a job gives when its result is asked for: the video, or why there is none.

The video is streamed from its file with ETag, Range and HEAD; its sha256 is its ETag.
"""

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from infinitetalk.errors import Canceled, JobExpired, JobNotFinished
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.model import Job, Status
from infinitetalk.serving.replies import problem_reply


def result_reply(request: Request, job: Job, folder: JobFolder) -> Response:
    """The answer for a job in any state.

    Raises:
        JobNotFinished, Canceled: there is no result.
        JobExpired: the file is gone.
    """
    if job.status is Status.CANCELED:
        raise Canceled("This job was canceled.")
    if job.error is not None:
        return problem_reply(request, job.error)
    if job.result is None:
        raise JobNotFinished(f"task {job.id} is not completed yet")
    etag = f'"{job.result.sha256}"'
    headers = {"etag": etag, "cache-control": "private, immutable, max-age=86400"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not folder.result.is_file():  # erased a moment ago
        raise JobExpired("This job was erased, or its time is over.")
    return FileResponse(folder.result, 200, headers, "video/mp4", filename=f"{job.id}.mp4")
