"""Where a URL may lead: its port, and every address of its host.

A name is resolved once, and what was checked is what `wire` dials, so that a name which answers
differently the second time (DNS rebinding) gains nothing. Nothing is connected to here.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from infinitetalk.errors import SourceTimeout, SourceUnreachable, UrlForbidden, UrlInvalid
from infinitetalk.serving.addresses import forbidden_reason
from infinitetalk.serving.url import Url, parse_authority

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this host's resolver orders them.

    Raises:
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [_address(*sockaddr) for *_, sockaddr in found]


class Gate:
    """Lets URLs through whose port and addresses are all in order.

    Args:
        ports: what a URL may name.
        private_hosts: `host` or `host:port`. Their addresses are not checked; one listed with a
            port may be reached at that port only, whether or not `ports` holds it.
        patience_s: how long resolving a name may take.

    Raises:
        UrlInvalid: a private host is none.
    """

    def __init__(
        self,
        ports: Iterable[int],
        private_hosts: Iterable[str],
        resolve: Resolve,
        patience_s: float,
    ) -> None:
        self._ports = frozenset(ports)
        self._private = frozenset(map(_listed_host, private_hosts))
        self._resolve = resolve
        self._patience_s = patience_s

    async def admit(self, url: Url, *, field: str) -> Sequence[str]:
        """All addresses of the URL's host.

        Raises:
            UrlInvalid: its port is not open to URLs.
            UrlForbidden: one of its addresses is not public.
            SourceUnreachable: its name does not resolve.
            SourceTimeout: resolving it takes too long.
        """
        is_listed_with_port = (url.host, url.port) in self._private
        if url.port not in self._ports and not is_listed_with_port:
            raise UrlInvalid(f"{field} names port {url.port}, which is not open.", field=field)
        addresses = await self._look_up(url, field)
        if not is_listed_with_port and (url.host, None) not in self._private:
            _check(addresses, field)
        return addresses

    async def _look_up(self, url: Url, field: str) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._patience_s):
                addresses = await self._resolve(url.host, url.port)
        except TimeoutError as error:
            message = f"{field} is too slow: resolving its name took too long."
            raise SourceTimeout(message, field=field) from error
        except (OSError, UnicodeError) as error:
            raise _nameless(field) from error
        if not addresses:
            raise _nameless(field)
        return tuple(dict.fromkeys(addresses))


def _check(addresses: Sequence[str], field: str) -> None:
    # All of them: with one public and one private answer the caller would choose by retrying.
    for reason in filter(None, map(forbidden_reason, addresses)):
        message = f"{field} leads to an address that is not public ({reason})."
        raise UrlForbidden(message, field=field)


def _address(host: str | int, _port: int | bytes, _flow: int = 0, scope: int = 0) -> str:
    return f"{host}%{scope}" if scope else str(host)


def _listed_host(text: str) -> tuple[str, int | None]:
    is_bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    return parse_authority(f"[{text}]" if is_bare_ipv6 else text, field="host")


def _nameless(field: str) -> SourceUnreachable:
    return SourceUnreachable(f"{field} cannot be reached: its name does not resolve.", field=field)
