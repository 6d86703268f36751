"""Every route of ours that is not BentoML's task protocol, as one ASGI app.

POST   /submit, GET|HEAD /result    the API of the project this one replaces: URLs in JSON
GET    /v1/jobs/{id}                status
GET    /v1/jobs/{id}/events         status, live
DELETE /v1/jobs/{id}                cancel and erase
GET    /v1/jobs/{id}/playlist.m3u8  its finished windows, to be watched while it is rendered
GET    /v1/jobs/{id}/segments/...   what the playlist names
GET    /v1/queue                    how much is waiting
GET    /v1/info                     what is deployed
GET    /v1/metrics                  Prometheus, for hosts without BentoML's /metrics
GET    /docs.json                   all of this as OpenAPI, in the place of BentoML's own
GET    /ui/                         the page
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from infinitetalk.errors import InvalidField, MalformedRequest
from infinitetalk.jobs.model import Job
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.body import read_json
from infinitetalk.serving.events import events
from infinitetalk.serving.metrics import CONTENT_TYPE
from infinitetalk.serving.multipart import BodyLimits
from infinitetalk.serving.openapi import describe_api
from infinitetalk.serving.page import page_routes
from infinitetalk.serving.preview import Preview
from infinitetalk.serving.replies import Handler, answering
from infinitetalk.serving.request import shown
from infinitetalk.serving.results import result_reply
from infinitetalk.serving.watching import WatchRoutes

SEED_FIELDS = {"image": "image_url", "audio1": "audio_url", "audio2": "audio_2_url"}
SEED_TEXT = {"prompt", "consent"}  # the second is ours: some deployments demand it


def create_app(backend: Backend) -> Starlette:
    """The app; its lifespan opens and closes the backend."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await to_thread.run_sync(backend.open)
        backend.listen_for_signals()
        try:
            yield
        finally:
            await to_thread.run_sync(backend.close)

    routes = _Routes(backend)
    watch = WatchRoutes(routes.find_to_watch)

    def route(path: str, handler: Handler, *methods: str) -> Route:
        return Route(path, answering(handler), methods=list(methods))

    return Starlette(
        routes=[
            route("/submit", routes.submit, "POST"),
            route("/result", routes.result, "GET"),
            route("/v1/jobs/{job_id}", routes.job, "GET", "DELETE"),
            route("/v1/jobs/{job_id}/events", routes.events, "GET"),
            route("/v1/jobs/{job_id}/playlist.m3u8", watch.playlist, "GET"),
            route("/v1/jobs/{job_id}/segments/{name}", watch.segment, "GET"),
            route("/v1/queue", routes.queue, "GET"),
            route("/v1/info", routes.info, "GET"),
            route("/v1/metrics", routes.metrics, "GET"),
            route("/docs.json", routes.description, "GET"),
            *page_routes(),
        ],
        lifespan=lifespan,
    )


class _Routes:
    """One method for each route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def submit(self, request: Request) -> Response:
        caller = self._backend.caller(request)
        limits = BodyLimits.from_settings(self._backend.settings)
        fields = _translated(await read_json(request, limits))
        job = await self._backend.desk.submit_fields(fields, caller)
        return JSONResponse({"call_id": job.id})

    async def result(self, request: Request) -> Response:
        job = await self._find(request, request.query_params.get("call_id"))
        if not job.status.is_terminal:
            return JSONResponse({"call_id": job.id, "status": job.status}, 202)
        return await result_reply(request, job, self._backend.desk.result)

    async def job(self, request: Request) -> Response:
        job = await self._find(request, request.path_params["job_id"])
        if request.method == "DELETE":
            await self._backend.desk.erase(job)
            return Response(status_code=204)
        return JSONResponse(await self._backend.desk.describe(job))

    async def events(self, request: Request) -> Response:
        desk, caller = self._backend.desk, self._backend.caller(request)
        job_id = request.path_params["job_id"]
        await desk.find(job_id, caller)

        async def look() -> dict[str, object]:
            return await desk.describe(await desk.find(job_id, caller))

        backend = self._backend
        stream = events(
            look, lambda: backend.is_draining, backend.watchers, look_s=2 * backend.look_s
        )
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, 200, headers, "text/event-stream")

    async def queue(self, request: Request) -> Response:
        self._backend.caller(request)
        return JSONResponse(await to_thread.run_sync(self._backend.load))

    async def info(self, request: Request) -> Response:
        self._backend.caller(request)
        return JSONResponse(await to_thread.run_sync(self._backend.info))

    async def metrics(self, request: Request) -> Response:
        text = await to_thread.run_sync(self._backend.metrics)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    async def description(self, request: Request) -> Response:
        return JSONResponse(describe_api(needs_key=bool(self._backend.settings.api_keys)))

    async def find_to_watch(self, request: Request) -> tuple[Job, Preview]:
        job = await self._find(request, request.path_params["job_id"])
        return job, self._backend.desk.preview(job)

    async def _find(self, request: Request, job_id: str | None) -> Job:
        caller = self._backend.caller(request)
        if job_id is None:
            raise MalformedRequest("call_id is required", field="call_id")
        return await self._backend.desk.find(job_id, caller)


def _translated(fields: Mapping[str, object]) -> dict[str, object]:
    """The old API's names as ours.

    Raises:
        InvalidField: a name it never had.
    """
    for name in fields:
        if name not in SEED_FIELDS and name not in SEED_TEXT:
            raise InvalidField(f"There is no field '{shown(name)}'.", field=shown(name))
    return {SEED_FIELDS.get(name, name): value for name, value in fields.items()}
