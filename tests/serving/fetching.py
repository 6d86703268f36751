"""The other side of a URL, for tests: servers on loopback, names of our own, dials that count."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpcore

from infinitetalk.errors import InfiniteTalkError
from infinitetalk.serving.fetch import Fetcher, FetchPolicy

URL = "http://files.example/a"
PUBLIC = "93.184.215.14"
OTHER = "93.184.215.15"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server that runs, and the heads of the requests it got."""

    port: int
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def listening(
    *answers: Answer, tls: ssl.SSLContext | None = None, is_patient: bool = True
) -> AsyncIterator[Server]:
    """A server whose n-th connection gets the n-th answer; the last one is repeated.

    An impatient server does not read the request first.
    """
    server = Server(0)
    connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            answer = answers[min(len(server.heads), len(answers) - 1)]
            head = await reader.readuntil(b"\r\n\r\n") if is_patient else b""
            server.heads.append(head.decode())
            await answer(reader, writer)
        writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.create_task(serve(reader, writer))

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        for _ in range(3):  # what was accepted this very moment becomes a connection first
            await asyncio.sleep(0)
        listener.close()
        for writer, task in connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections.values(), return_exceptions=True)
        await listener.wait_closed()


def replying(body: bytes = b"", status: str = "200 OK", headers: Iterable[str] = ()) -> Answer:
    """An honest answer with these headers and its length."""
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}")
    return sending(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def redirecting(to: str, status: str = "302 Found") -> Answer:
    return replying(status=status, headers=(f"Location: {to}", "Set-Cookie: a=b; Path=/"))


def sending(*pieces: bytes, pause_s: float = 0) -> Answer:
    """Raw bytes, then the end of the connection."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


def stalling(*pieces: bytes, pause_s: float = 0) -> Answer:
    """Raw bytes, and then nothing for as long as the other side waits."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sending(*pieces, pause_s=pause_s)(reader, writer)
        await reader.read()

    return answer


class Switchboard(httpcore.AsyncNetworkBackend):
    """Puts public addresses through to ports of loopback, and remembers every dial."""

    def __init__(self, lines: Mapping[str, int] | None = None) -> None:
        self.lines = lines or {}
        self.dialled: list[tuple[str, int]] = []
        self.timeouts: list[float | None] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        self.timeouts.append(timeout)
        if host not in self.lines:
            raise httpcore.ConnectError("no such line")
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.lines[host], timeout)


class Names:
    """A resolver; a name with several answers gives them in turn, then repeats the last."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host, [[]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Pauses:
    """A sleep that takes no time, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass
class Caller:
    """A fetcher in a small world: the line of `files.example` leads to a test server."""

    fetcher: Fetcher
    dialer: Switchboard
    names: Names
    pauses: Pauses

    async def download(self, folder: Path, url: str = URL) -> bytes:
        """The body, with a check that a failure leaves nothing in the folder."""
        target = folder / "input"
        try:
            await self.fetcher.download(url, target, max_bytes=100_000, field="image_url")
        except InfiniteTalkError:
            assert list(folder.iterdir()) == []
            raise
        return target.read_bytes()


def caller(
    *servers: Server,
    names: Mapping[str, Sequence[Sequence[str]]] | None = None,
    tls: ssl.SSLContext | None = None,
    deadline_s: float = 5.0,
    grace_s: float = 1.0,
    connect_s: float = 1.0,
    min_bytes_per_s: float = 1024.0,
    retries: int = 2,
    jitter: float = 0.5,
) -> Caller:
    """The first server answers for `files.example`, the second for `other.example`.

    Without `tls` no authority is trusted: to read the usual ones takes 50 ms.
    """
    policy = FetchPolicy(
        deadline_s=deadline_s,
        grace_s=grace_s,
        connect_s=connect_s,
        min_bytes_per_s=min_bytes_per_s,
        retries=retries,
    )
    ports = [server.port for server in servers]
    dialer = Switchboard(dict(zip((PUBLIC, OTHER), ports, strict=False)))
    known = Names(names or {"files.example": [[PUBLIC]], "other.example": [[OTHER]]})
    pauses = Pauses()
    fetcher = Fetcher(
        policy,
        resolve=known,
        dialer=dialer,
        tls=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        sleep=pauses,
        jitter=lambda: jitter,
    )
    return Caller(fetcher, dialer, known, pauses)
