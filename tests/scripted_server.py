"""A server on loopback that answers as it is told: refusals, broken connections, videos.

Every request takes the next answer of the script; without one a function answers. What was asked is
kept.
"""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None  # break off after so many bytes of the body


@dataclass(frozen=True)
class Hangup:
    """Break the connection off instead of answering."""

    reads: int | None = None  # so many bytes of the body before; all of them by default


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes  # its first megabyte
    size: int


Reply = Callable[[Asked], Answer | Hangup]


def said(code: int = 200, headers: dict[str, str] | None = None, /, **keys: Any) -> Answer:
    """An answer in JSON."""
    return Answer(code, json.dumps(keys).encode(), headers or {})


def problem(status: int, code: str, headers: dict[str, str] | None = None, **keys: Any) -> Answer:
    """An error in the service's shape."""
    sentence = {"error": f"The sentence of {code}.", "code": code, "field": None}
    return said(status, headers, **sentence, retryable=False, request_id="r", **keys)


class ScriptedServer:
    """To be used in a `with` block, at whose end the whole script must have been played."""

    def __init__(
        self,
        *script: Answer | Hangup,
        reply: Reply | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[Asked] = []
        self._script: list[Answer | Hangup] = list(script)
        self._reply = reply or (lambda asked: problem(500, "internal"))
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def then(self, *script: Answer | Hangup) -> None:
        """Go on with this after the script so far."""
        self._script.extend(script)

    def next(self, asked: Asked) -> Answer | Hangup:
        with self._lock:
            self.asked.append(asked)
            return self._script.pop(0) if self._script else self._reply(asked)

    def peek(self) -> Answer | Hangup | None:
        return self._script[0] if self._script else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert error is not None or not self._script, "the script was not played to its end"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], scripted: ScriptedServer) -> None:
        self.scripted = scripted
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        answer = self.server.scripted.peek()
        limit = answer.reads if isinstance(answer, Hangup) else None
        answer = self.server.scripted.next(self._read(limit))
        if isinstance(answer, Answer):
            self._send(answer)
        self.close_connection = True

    def _read(self, limit: int | None) -> Asked:
        declared = int(self.headers.get("content-length", 0))
        left = declared if limit is None else min(limit, declared)
        kept, size = b"", 0
        while left and (data := self.rfile.read(min(left, CHUNK))):
            left, size = left - len(data), size + len(data)
            kept = kept if len(kept) > 1 << 20 else kept + data
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(self.command, self.path, headers, kept, size)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("content-length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut_at])

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing goes to the terminal."""


def dead_url() -> str:
    """Where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def headers_of(asked: Sequence[Asked], name: str) -> list[str | None]:
    """One header of every request, in order."""
    return [request.headers.get(name) for request in asked]
