"""Calls of the app as a server makes them, for clients that go away in the middle."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx
from starlette.types import Message

from tests.serving.playing import Service

DISCONNECT: Message = {"type": "http.disconnect"}


def submitting(service: Service, path: str) -> httpx.Request:
    """A whole request for a job."""
    files = {"image": service.portrait.read_bytes(), "audio": service.speech.read_bytes()}
    return httpx.Request("POST", f"http://testserver{path}", files=files)


def body_of(request: httpx.Request) -> list[Message]:
    """What a server tells of a body that arrives in two pieces."""
    body = request.read()
    half = len(body) // 2
    return [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]


def call(service: Service, request: httpx.Request, told: Sequence[Message]) -> list[Message]:
    """What the app sends until the first byte of its answer's body finds nobody any more."""
    messages, sent = iter(told), list[Message]()

    async def receive() -> Message:
        return next(messages, DISCONNECT)

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body"):
            raise OSError("nobody is there")

    async def run() -> None:
        with suppress(OSError):
            await service.client.app(_scope(request), receive, send)

    asyncio.run(run())
    return sent


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "state": {},
    }
