"""A service at an address of this machine: every request goes there, with the connection's headers.

    browser -- http://127.0.0.1:3210 --> Forwarder -- https, headers --> the service

The headers open a door, so nobody else may go through: it listens on this machine only, and what
another site's page asks a browser to send is refused.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from infinitetalk.client.connection import Connection
from infinitetalk.errors import InfiniteTalkError

PAGE = "/ui/"
PIECE_BYTES = 1 << 16
BAD_GATEWAY = 502
FORBIDDEN = 403
SENT = ("accept", "authorization", "content-type", "idempotency-key", "if-none-match", "range")
KEPT_BACK = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
OURS = ("same-origin", "none")  # Sec-Fetch-Site of our page, and of an address that was typed
WITHOUT_BODY = (204, 304)


class Forwarder(ThreadingHTTPServer):
    """Listens as soon as it is made; `serve_forever` answers.

    Args:
        port: of this machine; 0 is any that is free.

    Raises:
        OSError: the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, port: int, connection: Connection) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.connection = connection
        self.hosts = tuple(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.hosts[0]}"


class _Handler(BaseHTTPRequestHandler):
    server: Forwarder
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_from_our_page():
            self._refuse(FORBIDDEN, "Only the page itself may use this address.", "forbidden")
        elif self.path == "/":
            self._redirect()
        else:
            self._forward()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _is_from_our_page(self) -> bool:
        """Not a name that somebody else's DNS gives this machine, and not another site's page."""
        site = self.headers.get("sec-fetch-site", "none")
        origin = self.headers.get("origin")
        origins = [f"http://{host}" for host in self.server.hosts]
        return (
            self.headers.get("host") in self.server.hosts
            and site in OURS
            and (origin is None or origin in origins)
        )

    def _forward(self) -> None:
        headers = {name: self.headers[name] for name in SENT if name in self.headers}
        headers["accept-encoding"] = "identity"
        body = self._body() if "content-length" in self.headers else None
        if body is not None:
            headers["content-length"] = self.headers["content-length"]
        has_begun = False
        try:
            with self.server.connection.relay(
                self.command, self.path, headers=headers, content=body
            ) as answer:
                has_begun = True
                self._answer(answer)
        except InfiniteTalkError as error:
            self.close_connection = True
            if not has_begun:
                self._refuse(BAD_GATEWAY, error.message, error.code)
        except ConnectionError:  # the browser has left
            self.close_connection = True

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers["content-length"])
        while left > 0 and (piece := self.rfile.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name.lower() not in KEPT_BACK:
                self.send_header(name, value)
        has_body = self.command != "HEAD" and answer.status_code not in WITHOUT_BODY
        is_chunked = has_body and "content-length" not in answer.headers
        if is_chunked:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if has_body:
            for piece in answer.iter_raw():
                self.wfile.write(_chunk(piece) if is_chunked else piece)
        if is_chunked:
            self.wfile.write(_chunk(b""))

    def _refuse(self, status: int, sentence: str, code: str) -> None:
        self.close_connection = True  # its body may be unread
        body = json.dumps({"error": sentence, "code": code, "field": None}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self) -> None:
        self.send_response(302)
        self.send_header("location", PAGE)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the service keeps the log."""


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
