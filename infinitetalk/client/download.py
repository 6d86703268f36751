"""A video on its way to disk: whole under its name, or a part beside it that can be continued."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infinitetalk.client.patience import Patience
from infinitetalk.client.upload import OnBytes
from infinitetalk.errors import ConnectionFailed
from infinitetalk.media.publish import publishing

TRIES = 2  # a part may have been damaged when its writer was cut off
PARTIAL_CONTENT = 206

ReadFrom = Callable[[int], AbstractContextManager[httpx.Response]]
"""Opens the video from this byte on; a server may also begin at the first one and say so."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the server says of its video."""

    sha256: str
    size_bytes: int


def download(
    target: Path,
    part: Path,
    expected: Expected,
    read_from: ReadFrom,
    patience: Patience,
    on_bytes: OnBytes,
) -> None:
    """Bring the video to `target`; `part` is where its bytes gather, and may hold some already.

    Raises:
        ConnectionFailed: it does not arrive, or arrives damaged. In the first case `part` stays.
        StorageFull: the disk has no room; `part` stays.
    """
    with publishing(target) as published:
        for _ in range(TRIES):
            while _size(part) < expected.size_bytes:
                patience.insist(lambda: _continue(part, expected, read_from, on_bytes))
            if _is_whole(part, expected):
                part.replace(published)
                return
            part.unlink()
        raise ConnectionFailed("The video arrives damaged.")


def _continue(part: Path, expected: Expected, read_from: ReadFrom, on_bytes: OnBytes) -> None:
    """Append what comes; when that breaks off, it still was progress, and patience starts anew."""
    start = _size(part)
    failed = ConnectionFailed("The video breaks off before its end.")
    try:
        with read_from(start) as response:
            mode = "ab" if response.status_code == PARTIAL_CONTENT else "wb"
            with part.open(mode) as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    on_bytes(file.tell(), expected.size_bytes)
    except ConnectionFailed as error:
        failed = error
    if _size(part) <= start:
        raise failed


def _is_whole(path: Path, expected: Expected) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
