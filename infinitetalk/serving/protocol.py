"""BentoML's task protocol for `generate`, over our jobs.

    POST     /generate/submit              -> task_id
    GET      /generate/status?task_id=     -> where it is
    GET      /generate/get?task_id=        -> the video
    PUT|POST /generate/cancel?task_id=
    POST     /generate/retry?task_id=      -> a new task_id
    POST     /generate                     submit, wait, get

A middleware that answers everything below `/generate` itself, so that BentoML's own parser, which
fetches URLs and holds bodies in memory, never sees a request of ours.
"""

import time

from anyio import sleep
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from infinitetalk.errors import InfiniteTalkError, MalformedRequest, WaitTimeout
from infinitetalk.jobs.model import Job, Problem
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.desk import Caller, Desk
from infinitetalk.serving.replies import Handler, answering, problem_reply, refuse_route
from infinitetalk.serving.results import result_reply

PREFIX = "/generate"


class TaskProtocol:
    """The middleware; `backend` answers."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._router = _Tasks(backend).router()

    @property
    def routes(self) -> list[BaseRoute]:
        """What is answered here."""
        return self._router.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_ours = path == PREFIX or path.startswith(f"{PREFIX}/")
        if scope["type"] != "http" or not is_ours:
            await self._app(scope, receive, send)
            return
        try:
            await self._router({**scope, "app": None}, receive, send)
        except HTTPException as error:
            reply = await refuse_route(Request(scope), error)
            await reply(scope, receive, send)


class _Tasks:
    """One method for each route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def router(self) -> Router:
        def route(path: str, handler: Handler, *methods: str) -> Route:
            return Route(f"{PREFIX}{path}", answering(handler), methods=list(methods))

        return Router(
            [
                route("", self.run, "POST"),
                route("/submit", self.submit, "POST"),
                route("/status", self.status, "GET"),
                route("/get", self.get, "GET"),
                route("/cancel", self.cancel, "PUT", "POST"),
                route("/retry", self.retry, "POST"),
            ],
            redirect_slashes=False,
            default=_not_found,
        )

    async def submit(self, request: Request) -> Response:
        job = await self._backend.desk.submit(request, self._backend.caller(request))
        return JSONResponse({"task_id": job.id, "status": job.status})

    async def run(self, request: Request) -> Response:
        desk = self._backend.desk  # kept: once draining, the backend gives it to nobody
        job = await desk.submit(request, self._backend.caller(request))
        try:
            with self._backend.watchers.place() as has_room:
                ended = await self._ended(job, desk, has_room)
            reply = await result_reply(request, ended, desk.result)
        except InfiniteTalkError as error:
            reply = problem_reply(request, Problem.of(error))
        reply.headers["x-task-id"] = job.id
        return reply

    async def status(self, request: Request) -> Response:
        return JSONResponse(await self._backend.desk.describe(await self._find(request)))

    async def get(self, request: Request) -> Response:
        job = await self._find(request)
        return await result_reply(request, job, self._backend.desk.result)

    async def cancel(self, request: Request) -> Response:
        job = await self._backend.desk.cancel(await self._find(request))
        return JSONResponse({"task_id": job.id, "status": job.status})

    async def retry(self, request: Request) -> Response:
        caller = self._backend.caller(request)
        job = await self._backend.desk.retry(await self._find(request), caller)
        return JSONResponse({"task_id": job.id, "status": job.status})

    async def _find(self, request: Request) -> Job:
        task_id = request.query_params.get("task_id")
        caller = self._backend.caller(request)
        if task_id is None:
            raise MalformedRequest("task_id is required", field="task_id")
        return await self._backend.desk.find(task_id, caller)

    async def _ended(self, job: Job, desk: Desk, may_wait: bool) -> Job:
        """The job once it has ended.

        Raises:
            WaitTimeout: it takes longer than a request may, or this server stops; it goes on.
        """
        owner = Caller(job.owner, job.request_id)
        limit_s = self._backend.settings.wait_seconds
        deadline = time.monotonic() + limit_s
        goes_on = f"The job goes on: ask for its status with task_id={job.id}."
        while not job.status.is_terminal:
            if self._backend.is_draining:
                raise WaitTimeout(f"The service is restarting. {goes_on}")
            if not may_wait:
                raise WaitTimeout(f"Too many requests wait already. {goes_on}")
            if time.monotonic() > deadline:
                raise WaitTimeout(f"The job takes longer than {limit_s:g} s. {goes_on}")
            await sleep(self._backend.look_s)
            job = await desk.find(job.id, owner)
        return job


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)
