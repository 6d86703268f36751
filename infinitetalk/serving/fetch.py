"""Fetching what a caller's URL names, and sending results to where a caller wants them.

The caller chooses the URL, so the other side may be anything: our own network (`gate` keeps us out
of it), a server that never starts or never ends, a bomb. Bytes, seconds and redirects are bounded;
what goes wrong is a typed error. There are no proxies from the environment, no cookies, no
credentials, no compression. What the bytes mean is not looked at here.

URLs may hold secrets: messages name the request's field, never the URL, and nothing is logged here.
At the level DEBUG, not at INFO, httpcore logs hosts, addresses and the headers of answers, thus
where redirects lead.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpcore

from infinitetalk import __version__
from infinitetalk.config import PREFIX, Settings
from infinitetalk.errors import InvalidSetting, SourceTimeout, UrlInvalid
from infinitetalk.serving.gate import Gate, Resolve, resolve_by_system
from infinitetalk.serving.transfer import Pace, pieces_of, receive
from infinitetalk.serving.url import Url, parse_redirect, parse_url
from infinitetalk.serving.wire import Wire, header, unreachable

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FIRST_PAUSE_S = 0.5
_HEADERS = {
    "User-Agent": f"infinitetalk/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # a compressed answer may be a bomb
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What a URL may name, and how long its other side may take."""

    ports: frozenset[int] = frozenset({80, 443})
    allowed_hosts: frozenset[str] = frozenset()  # `host` or `host:port`: these may be private
    deadline_s: float = 300.0  # of one call, redirects and retries included
    min_bytes_per_s: float = 1024.0
    grace_s: float = 10.0  # for an answer to start; the rate is measured over as long
    connect_s: float = 10.0  # to resolve a name; again to connect; again for TLS
    max_redirects: int = 3
    retries: int = 2  # of downloads: after a timeout, a broken transfer, or a status from 500 up

    @property
    def pace(self) -> Pace:
        return Pace(self.min_bytes_per_s, self.grace_s)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What one attempt at a download came to."""

    status: int
    size_bytes: int = 0


class Fetcher:
    """The one way out: every URL that a caller gives is opened here.

    Args:
        jitter: numbers in [0, 1) that spread the retries of many callers.

    Raises:
        UrlInvalid: an allowed host is none.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolve = resolve_by_system,
        dialer: httpcore.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._gate = Gate(policy.ports, policy.allowed_hosts, resolve, policy.connect_s)
        self._wire = Wire(
            dialer or httpcore.AnyIOBackend(),
            tls or httpcore.default_ssl_context(),
            policy.connect_s,
            policy.grace_s,
        )
        self._sleep = sleep
        self._jitter = jitter

    @classmethod
    def from_settings(cls, settings: Settings) -> "Fetcher":
        """The fetcher of a deployment.

        Raises:
            InvalidSetting: an allowed host is none.
        """
        policy = FetchPolicy(
            ports=frozenset(settings.fetch_ports),
            allowed_hosts=frozenset(settings.fetch_allowed_hosts),
            deadline_s=settings.fetch_seconds,
        )
        try:
            return cls(policy)
        except UrlInvalid as error:
            message = f"{PREFIX}FETCH_ALLOWED_HOSTS takes host or host:port, separated by commas."
            raise InvalidSetting(message) from error

    async def check(self, url: str, *, field: str) -> None:
        """Refuse a URL that could not be opened later; resolves its name and connects nowhere.

        Raises:
            UrlInvalid: it is no http(s) URL, or its port is not open.
            UrlForbidden: it leads to an address that is not public.
            SourceUnreachable: its name does not resolve.
            SourceTimeout: resolving it takes too long.
        """
        await self._gate.admit(parse_url(url, field=field), field=field)

    async def download(self, url: str, target: Path, *, max_bytes: int, field: str) -> int:
        """Put what a URL names into a file, which is absent on failure; its size in bytes.

        Raises:
            UrlInvalid, UrlForbidden: as `check`, for the URL and for wherever it redirects to.
            InputTooLarge: there are more than `max_bytes`.
            SourceUnreachable: the other side refuses, or gives nothing.
            SourceTimeout: the other side is too slow, or breaks off.
            StorageFull: the disk has no room.
        """
        start = parse_url(url, field=field)
        async with self._deadline(field):
            for attempt in range(self._policy.retries):
                with suppress(SourceTimeout):
                    reply = await self._get(start, target, max_bytes, field)
                    if reply.status < 500:
                        return _size(reply, field)
                await self._sleep(_FIRST_PAUSE_S * 2**attempt * (0.5 + self._jitter()))
            return _size(await self._get(start, target, max_bytes, field), field)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, field: str) -> int:
        """Send a few bytes once; the status of the answer, whatever it is. Follows no redirect.

        Raises:
            UrlInvalid, UrlForbidden, SourceUnreachable, SourceTimeout: as `download`.
        """
        sized = {**headers, "Content-Length": str(len(body))}
        return await self._send("POST", url, sized, body, self._policy.grace_s, field)

    async def put(self, url: str, source: Path, content_type: str, *, field: str) -> int:
        """Send a file once; the status of the answer, whatever it is. Follows no redirect.

        Raises:
            UrlInvalid, UrlForbidden, SourceUnreachable, SourceTimeout: as `download`.
        """
        sized = {"Content-Type": content_type, "Content-Length": str(source.stat().st_size)}
        async with aclosing(pieces_of(source)) as body:
            return await self._send("PUT", url, sized, body, None, field)

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
        answer_s: float | None,
        field: str,
    ) -> int:
        parsed = parse_url(url, field=field)
        async with self._deadline(field):
            addresses = await self._gate.admit(parsed, field=field)
            async with self._wire.exchange(
                method,
                parsed,
                addresses,
                {**_HEADERS, **headers},
                body,
                answer_s=answer_s,
                field=field,
            ) as response:
                return response.status

    async def _get(self, url: Url, target: Path, max_bytes: int, field: str) -> _Reply:
        """Follow redirects to an answer that is none, and keep its body if it is a success."""
        for _ in range(self._policy.max_redirects + 1):
            addresses = await self._gate.admit(url, field=field)
            async with self._wire.exchange(
                "GET", url, addresses, _HEADERS, answer_s=self._policy.grace_s, field=field
            ) as response:
                location = header(response, b"location")
                if response.status not in _REDIRECTS or location is None:
                    return await self._keep(response, target, max_bytes, field)
                url = parse_redirect(url, location, field=field)
        raise unreachable(field, "it redirects too often")

    async def _keep(
        self, response: httpcore.Response, target: Path, max_bytes: int, field: str
    ) -> _Reply:
        if not 200 <= response.status < 300:
            return _Reply(response.status)
        size = await receive(
            response, target, max_bytes=max_bytes, pace=self._policy.pace, field=field
        )
        return _Reply(response.status, size)

    @asynccontextmanager
    async def _deadline(self, field: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._policy.deadline_s):
                yield
        except TimeoutError as error:
            limit = f"{self._policy.deadline_s:g} seconds"
            raise SourceTimeout(
                f"{field} is too slow: it took more than {limit}.", field=field
            ) from error


def _size(reply: _Reply, field: str) -> int:
    if not 200 <= reply.status < 300:
        raise unreachable(field, f"its server answered with {reply.status // 100}xx")
    return reply.size_bytes
