"""HTTP with one server: requests with its headers, answers as JSON, failures as our errors.

Keys travel in headers, so no redirect is followed to another host or out of TLS.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from infinitetalk.client.answers import content, origin, refusal
from infinitetalk.client.patience import Patience
from infinitetalk.errors import (
    ConnectionFailed,
    InfiniteTalkError,
    InvalidField,
    Unavailable,
    UrlInvalid,
)

CONNECT_S = 10.0


class Connection:
    """A server, for as long as it is talked to; threads may share it.

    Args:
        timeout_s: how long the server may be silent.

    Raises:
        UrlInvalid: the URL names no server.
        InvalidField: a header cannot be sent.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout_s: float, patience: Patience
    ) -> None:
        self._server = _parse(url)
        check_headers(headers)
        self.patience = patience
        self._http = httpx.Client(
            base_url=self._server,
            headers=dict(headers),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None),  # as many as there are threads
            follow_redirects=True,  # Modal answers so when a request takes minutes
            event_hooks={"response": [self._check_redirect]},
        )

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON that a request is answered with; it is repeated, so it must bear that."""
        return self.patience.insist(lambda: self.ask_once(method, path, **request))

    def ask_once(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The same without a second try.

        Args:
            request: the arguments of `httpx.Client.request`.

        Raises:
            InfiniteTalkError: the server's refusal.
            ConnectionFailed: there is no answer.
            Unavailable: there is one, but not from this service.
        """
        with self.exchange(method, path, **request) as response:
            response.read()
            return content(response)

    @contextmanager
    def exchange(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        """Send a request once; its answer is a success, its body is still to be read."""
        with self.relay(method, path, **request) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            yield response

    @contextmanager
    def relay(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        """The same, and its answer may be a refusal too."""
        with self._translated(), self._http.stream(method, path, **request) as response:
            yield response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        server = origin(self._server)
        try:
            yield
        except httpx.TimeoutException as error:
            raise ConnectionFailed(f"{server} does not answer.") from error
        except httpx.ConnectError as error:
            raise _unreachable(server, error) from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"{server} broke off the connection.") from error
        except httpx.RequestError as error:
            raise Unavailable(f"{server} does not answer as this service does.") from error

    def _check_redirect(self, response: httpx.Response) -> None:
        if not response.has_redirect_location:
            return
        target = response.url.join(response.headers["location"])
        leaves_tls = response.url.scheme == "https" and target.scheme != "https"
        if target.host != self._server.host or leaves_tls:
            raise Unavailable(f"{origin(self._server)} redirects to another server.")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what cannot be sent, before it looks like a fault of the network.

    Raises:
        InvalidField: names the header, and does not repeat its value.
    """
    for name, value in headers.items():
        if not (value and value.isascii() and value.isprintable() and value == value.strip()):
            raise InvalidField(f"The value of {name} cannot be sent in a header.", field=name)


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise UrlInvalid("The URL of the server cannot be read.", field="url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UrlInvalid("The URL of the server must begin with http:// or https://.", field="url")
    return parsed


def _unreachable(server: str, error: httpx.ConnectError) -> InfiniteTalkError:
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Unavailable(f"{server} cannot be reached: TLS with it cannot be trusted.")
    is_nameless = any(isinstance(cause, socket.gaierror) for cause in causes)
    reason = "its name does not resolve" if is_nameless else "it takes no connection"
    return ConnectionFailed(f"{server} cannot be reached: {reason}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
