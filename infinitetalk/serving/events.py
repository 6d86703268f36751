"""Live status of one job as server-sent events (HTML Living Standard, 9.2).

A stream ends after `STREAM_S` seconds and the browser comes back by itself, so that a proxy never
has to guess whether it is still alive. Each event is the whole status; nothing is lost between two
streams.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from anyio import sleep

from infinitetalk.jobs.model import Status

STREAM_S = 120.0
POLL_S = 0.5
KEEPALIVE_S = 15.0
RETRY_MS = 1000

Look = Callable[[], Awaitable[dict[str, Any]]]
"""The status of the job now."""


async def events(
    look: Look,
    is_draining: Callable[[], bool],
    *,
    stream_s: float = STREAM_S,
    poll_s: float = POLL_S,
) -> AsyncIterator[str]:
    """`status` events whenever something changed, until the job has ended or the stream is old."""
    yield f"retry: {RETRY_MS}\n\n"
    ends_at = time.monotonic() + stream_s
    said: dict[str, Any] | None = None
    said_at = time.monotonic()
    while True:
        status = await look()
        now = time.monotonic()
        if status != said:
            said, said_at = status, now
            yield f"event: status\ndata: {json.dumps(status)}\n\n"
        elif now - said_at > KEEPALIVE_S:
            said_at = now
            yield ": still here\n\n"
        if Status(status["status"]).is_terminal or now > ends_at or is_draining():
            return
        await sleep(poll_s)
