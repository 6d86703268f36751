"""What a server answers, as our types: JSON, and every error by its code."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from infinitetalk.errors import (
    Canceled,
    ConnectionFailed,
    InfiniteTalkError,
    Unauthenticated,
    Unavailable,
)

PASSING = frozenset({429, 502, 503, 504})  # what proxies and platforms say while something starts
LOCKED = frozenset({401, 403})


def content(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; nothing where there is no body.

    Raises:
        Unavailable: it is none, so the other side is not this service.
    """
    if not response.content:
        return {}
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"{origin(response.url)} does not answer as this service does.")
    return found


def refusal(response: httpx.Response) -> InfiniteTalkError:
    """The error that an answer stands for; its body has been read."""
    try:
        body = response.json()
        error = rebuilt(body["code"], body["error"], body["field"])
    except (ValueError, TypeError, KeyError):
        error = _foreign(response)
    error.retry_after_s = _retry_after_s(response)
    return error


def failure(status: Mapping[str, Any]) -> InfiniteTalkError | None:
    """Why a job that has ended has no video; None if it has one."""
    if status["status"] == "canceled":
        return Canceled("This job was canceled.")
    problem = status["error"]
    return problem and rebuilt(problem["code"], problem["message"], problem["field"])


def rebuilt(code: str, message: str, field: str | None) -> InfiniteTalkError:
    """An error of the server's as it was raised there; the base class for a code of tomorrow."""
    kinds = {kind.code: kind for kind in _family(InfiniteTalkError)}
    return kinds.get(code, InfiniteTalkError)(str(message), field=field)


def origin(url: httpx.URL) -> str:
    """Scheme, host and port: of a URL, what may stand in a message."""
    return str(url.copy_with(username=None, password=None, raw_path=b"")).rstrip("/")


def _foreign(response: httpx.Response) -> InfiniteTalkError:
    """A refusal that is not in our shape: a proxy's, or another program's."""
    server, status = origin(response.url), response.status_code
    if status in LOCKED:
        return Unauthenticated(f"{server} wants a key or headers that were not given ({status}).")
    if status in PASSING:
        return ConnectionFailed(f"{server} cannot be reached behind its proxy ({status}).")
    return Unavailable(f"{server} does not answer as this service does ({status}).")


def _family(kind: type[InfiniteTalkError]) -> Iterator[type[InfiniteTalkError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
