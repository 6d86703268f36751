"""One HTTP request and its answer, over one connection to addresses that were checked before.

The header `Host`, TLS and its certificate keep the name of the URL; only the dialling is pinned.
Whatever the network does is translated into our errors here. Connections are not kept.
"""

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import httpcore

from infinitetalk.errors import InfiniteTalkError, SourceTimeout, SourceUnreachable
from infinitetalk.serving.url import Url

_MAX_DIALS = 4  # addresses of one name that are tried
_NETWORK_ERRORS = (
    TimeoutError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.RemoteProtocolError,
    ssl.SSLError,  # after the handshake httpcore leaves it as it is
)


@dataclass(frozen=True, slots=True)
class Wire:
    """How connections are made."""

    dialer: httpcore.AsyncNetworkBackend
    tls: ssl.SSLContext
    connect_s: float  # to connect; again for TLS
    stall_s: float  # how long the other side may take nothing of what is sent

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: Url,
        addresses: Sequence[str],
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        answer_s: float | None = None,
        field: str,
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request; the answer's status and headers are there, its body is still to be read.

        Args:
            answer_s: how long the other side may think before, and pause in, its answer; None
                leaves that to the caller.

        Raises:
            SourceUnreachable: the other side refuses the connection or does not speak HTTP.
            SourceTimeout: the other side is too slow, or breaks off.
        """
        request = self._request(method, url, headers, body, answer_s)
        dialer = PinnedDialer(addresses, self.dialer)
        # Against headers that drip, which no pause gives away.
        limit_s = None if answer_s is None else 2 * self.connect_s + answer_s
        is_answered = False
        try:
            async with httpcore.AsyncConnectionPool(self.tls, network_backend=dialer) as pool:
                async with asyncio.timeout(limit_s):
                    response = await pool.handle_async_request(request)
                is_answered = True
                try:
                    yield response
                finally:
                    await response.aclose()
        except _NETWORK_ERRORS as error:
            raise _public(error, field, is_answered) from error

    def _request(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] | None,
        answer_s: float | None,
    ) -> httpcore.Request:
        timeout = {"connect": self.connect_s, "write": self.stall_s, "read": answer_s}
        return httpcore.Request(
            method,
            httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=[("Host", url.authority), *headers.items()],
            content=body,
            extensions={"timeout": timeout},
        )


class PinnedDialer(httpcore.AsyncNetworkBackend):
    """Connects to the first of the given addresses that answers, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[str], dialer: httpcore.AsyncNetworkBackend) -> None:
        self._addresses = addresses[:_MAX_DIALS]
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # in seconds, shared by the addresses
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        share = None if timeout is None else timeout / len(self._addresses)
        *others, last = self._addresses
        for address in others:
            try:
                return await self._dialer.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._dialer.connect_tcp(last, port, share, local_address, socket_options)


def header(response: httpcore.Response, name: bytes) -> bytes | None:
    """The first value of a header of an answer; its name in lower case."""
    return next((value for key, value in response.headers if key.lower() == name), None)


def unreachable(field: str, reason: str) -> SourceUnreachable:
    """The error that says why the other side gave nothing."""
    return SourceUnreachable(f"{field} cannot be reached: {reason}.", field=field)


def _public(error: Exception, field: str, is_answered: bool) -> InfiniteTalkError:
    cause = error.args[0] if error.args else None  # httpcore wraps what it translates
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return SourceTimeout(f"{field} is too slow: its server takes too long.", field=field)
    if isinstance(error, httpcore.ConnectError):
        return unreachable(field, _connect_failure(cause))
    if not is_answered and isinstance(cause, h11.RemoteProtocolError):
        return unreachable(field, "its answer is not HTTP")
    # What ends too early may be whole the next time, like what stalls: it has the same code.
    return SourceTimeout(f"{field} broke off before its answer was complete.", field=field)


def _connect_failure(cause: object) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    if isinstance(cause, ssl.SSLError):
        return "no TLS connection can be made"
    return "it takes no connection"
