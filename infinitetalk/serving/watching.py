"""The routes of a job's preview: its playlist and what that names.

Who may ask, and what is answered for a job that ended without a video, is as everywhere. A window
that is rendered again may get other bytes, so a browser asks whether its copy is still good.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from infinitetalk.errors import JobNotFound
from infinitetalk.jobs.model import Job
from infinitetalk.serving.playlist import CONTENT_TYPE
from infinitetalk.serving.preview import Preview
from infinitetalk.serving.results import ended_badly

_SEGMENT = re.compile(r"([0-9]{5,9})\.m4s")

Find = Callable[[Request], Awaitable[tuple[Job, Preview]]]
"""The job that a request names, for who may see it."""


class WatchRoutes:
    """One method for each route."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def playlist(self, request: Request) -> Response:
        return await self._reply(request, lambda shown: shown.playlist().encode(), CONTENT_TYPE)

    async def segment(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "init.mp4":
            return await self._reply(request, Preview.init, "video/mp4")
        return await self._reply(
            request, lambda shown: shown.segment(_window(name)), "video/iso.segment"
        )

    async def _reply(
        self, request: Request, make: Callable[[Preview], bytes], content_type: str
    ) -> Response:
        job, preview = await self._find(request)
        if ended := ended_badly(request, job):
            return ended
        body = await to_thread.run_sync(make, preview)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, 200, headers, content_type)


def _window(name: str) -> int:
    """
    Raises:
        JobNotFound: no segment can have this name.
    """
    if not (matched := _SEGMENT.fullmatch(name)):
        raise JobNotFound("The job has no such segment.")
    return int(matched[1])
