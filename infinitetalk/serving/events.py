"""Live status of one job as server-sent events (HTML Living Standard, 9.2).

A stream ends after `STREAM_S` seconds and the browser comes back by itself, so that a proxy never
has to guess whether it is still alive. Each event is the whole status; nothing is lost between two
streams. Where too many watch already, a stream tells the status once and asks to come back later.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from anyio import sleep

from infinitetalk.jobs.model import Status
from infinitetalk.serving.watchers import Watchers

STREAM_S = 120.0
KEEPALIVE_S = 15.0
RETRY_MS = 1000
CROWDED_RETRY_MS = 5000

Look = Callable[[], Awaitable[dict[str, Any]]]
"""The status of the job now."""


async def events(
    look: Look,
    is_draining: Callable[[], bool],
    watchers: Watchers,
    *,
    look_s: float,
    stream_s: float = STREAM_S,
) -> AsyncIterator[str]:
    """`status` events whenever something changed, until the job has ended or the stream is old.

    Args:
        look_s: seconds between two looks.
    """
    with watchers.place() as has_room:
        if not has_room:
            yield f"retry: {CROWDED_RETRY_MS}\n\n{_event(await look())}"
            return
        yield f"retry: {RETRY_MS}\n\n"
        async for text in _changes(look, is_draining, look_s, stream_s):
            yield text


async def _changes(
    look: Look, is_draining: Callable[[], bool], look_s: float, stream_s: float
) -> AsyncIterator[str]:
    ends_at = time.monotonic() + stream_s
    said: dict[str, Any] | None = None
    said_at = time.monotonic()
    while True:
        status = await look()
        now = time.monotonic()
        if status != said:
            said, said_at = status, now
            yield _event(status)
        elif now - said_at > KEEPALIVE_S:
            said_at = now
            yield ": still here\n\n"
        if Status(status["status"]).is_terminal or now > ends_at or is_draining():
            return
        await sleep(look_s)


def _event(status: dict[str, Any]) -> str:
    return f"event: status\ndata: {json.dumps(status)}\n\n"
