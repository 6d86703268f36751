"""Bodies between the wire and files: in pieces, off the event loop, bounded in bytes and in time.

It looks at no content; that a file is whole is what HTTP's framing says.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpcore
from anyio.to_thread import run_sync

from infinitetalk.errors import InputTooLarge, StorageFull
from infinitetalk.serving.wire import header, unreachable

_PIECE_BYTES = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Pace:
    """The slowest transfer that is borne: in every stretch of `grace_s`, so much on average."""

    min_bytes_per_s: float
    grace_s: float

    @property
    def quota_bytes(self) -> float:
        """What has to come before `grace_s` is over, again and again."""
        return self.min_bytes_per_s * self.grace_s


async def receive(
    response: httpcore.Response, target: Path, *, max_bytes: int, pace: Pace, field: str
) -> int:
    """Put the body of an answer into a file, which is absent on failure; its size in bytes.

    Raises:
        InputTooLarge: the body is larger, or says so.
        SourceUnreachable: it is empty or compressed.
        TimeoutError: it comes too slowly.
        StorageFull: the disk has no room.
    """
    if (header(response, b"content-encoding") or b"identity").lower() != b"identity":
        raise unreachable(field, "its server sent a compressed answer")
    if int(header(response, b"content-length") or 0) > max_bytes:
        raise _too_large(field, max_bytes)
    size, due = 0, pace.quota_bytes
    with _arriving(target) as file:
        async with asyncio.timeout(pace.grace_s) as timer:
            async for piece in response.aiter_stream():
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(field, max_bytes)
                await run_sync(file.write, piece)
                if size >= due:
                    due = size + pace.quota_bytes
                    timer.reschedule(asyncio.get_running_loop().time() + pace.grace_s)
        if size == 0:
            raise unreachable(field, "its server sent an empty answer")
    return size


async def pieces_of(source: Path) -> AsyncGenerator[bytes, None]:
    """The content of a file."""
    with source.open("rb") as file:
        while piece := await run_sync(file.read, _PIECE_BYTES):
            yield piece


@contextmanager
def _arriving(target: Path) -> Iterator[BinaryIO]:
    """A file to write to; it becomes `target` when the block ends well, and is removed otherwise.

    Unlike `media.publish` it does not sync: what a power cut takes here was not accepted yet.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull("The disk has no room for what is fetched.") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _too_large(field: str, max_bytes: int) -> InputTooLarge:
    return InputTooLarge(f"{field} is larger than {max_bytes} bytes.", field=field)
