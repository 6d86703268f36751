"""A service without an engine, in this process; tests play the engine on its store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.testclient import TestClient

from infinitetalk.config import Settings, load_settings
from infinitetalk.jobs.host import LocalHost
from infinitetalk.jobs.model import Job, Problem, Usage, Video, complete, fail
from infinitetalk.serving.app import create_app
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.protocol import TaskProtocol
from infinitetalk.serving.sandbox import Sandbox
from tests.serving.described import check_answer

VIDEO = bytes(range(256)) * 400
SHA256 = "b7e3c3a7a1a1e0a7"  # what the row says; readers trust the row


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, its HTTP client and its host."""

    client: TestClient
    host: LocalHost
    settings: Settings
    backend: Backend
    portrait: Path
    speech: Path

    def submit(self, headers: dict[str, str] | None = None, **fields: Any) -> str:
        """The id of a job that was accepted."""
        answer = self.try_submit(headers, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def try_submit(
        self, headers: dict[str, str] | None = None, path: str = "/generate/submit", **fields: Any
    ) -> Any:
        with self.portrait.open("rb") as image, self.speech.open("rb") as audio:
            files = {"image": image, "audio": audio}
            return self.client.post(path, files=files, data=fields, headers=headers)

    def get(self, path: str, **query: str) -> Any:
        return self.client.get(path, params=query)

    def status(self, task_id: str) -> dict[str, Any]:
        answer = self.get("/generate/status", task_id=task_id)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def start(self, task_id: str) -> Job:
        """Play the engine: lease the job."""
        job = self.host.queue.lease("0")
        assert job is not None and job.id == task_id
        return job

    def complete(self, task_id: str, usage: Usage | None = None, video: bytes = VIDEO) -> Job:
        """Play the engine: run the job to its end."""
        job = self.start(task_id)
        self.host.blobs.folder(task_id).result.write_bytes(video)
        done = Video(SHA256, len(video), frames=30, windows=2)
        usage = usage or Usage(gpu_seconds=2.0, cost_usd=0.5, attention="sdpa")
        ended = complete(job, done, usage, now=job.created_at + 9)
        assert self.host.store.replace(job, ended)
        return ended

    def fail(self, task_id: str, problem: Problem) -> Job:
        """Play the engine: give the job up."""
        job = self.start(task_id)
        ended = fail(job, problem, now=job.created_at + 9)
        assert self.host.store.replace(job, ended)
        return ended


Running = Callable[..., Any]


@contextmanager
def serving(
    data: Path,
    portrait: Path,
    speech: Path,
    *,
    sandbox: Sandbox,
    fetcher: Fetcher | None = None,
    clock: Callable[[], float] | None = None,
    **changes: Any,
) -> Iterator[Service]:
    """A service on a data folder, with these settings."""
    settings = replace(
        load_settings({"INFINITETALK_PRESET": "tiny", "INFINITETALK_ENGINES": "0"}),
        home=data,
        data=data,
        **changes,
    )
    options = {} if clock is None else {"clock": clock}
    backend = Backend(settings, fetcher=fetcher, checker=sandbox, **options)
    app = create_app(backend)
    app.user_middleware.append(Middleware(TaskProtocol, backend=backend))
    with TestClient(app, raise_server_exceptions=False) as client:
        client.event_hooks = {"response": [check_answer]}
        host = LocalHost.open(settings)
        try:
            yield Service(client, host, settings, backend, portrait, speech)
        finally:
            host.close()


class FileServer:
    """Files in memory over HTTP on loopback; remembers what was asked and sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[int] = []  # the next statuses of POST and PUT; 200 afterwards
        self.received: list[tuple[str, str, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = server.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.received.append((self.command, self.path, headers, body))
                self.send_response(server.answers.pop(0) if server.answers else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            do_PUT = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Not to the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.address}"

    def put(self, path: str, body: bytes) -> None:
        self.files[path] = body


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A file server that is gone with the block."""
    files = FileServer()
    thread = threading.Thread(target=files.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield files
    finally:
        files.server.shutdown()
        files.server.server_close()
        thread.join()
