"""The body of a submit: fields, and files that are read from disk while they are sent."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinitetalk.errors import FileMissing

Source = str | Path
"""A file, or an http(s) URL that the server fetches."""

OnBytes = Callable[[int, int], None]
"""Told how many bytes of how many are through."""


def ignore_bytes(done: int, total: int) -> None:
    """The `OnBytes` of those who do not want to know."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request consists of."""

    fields: Mapping[str, object]
    files: Mapping[str, Path]

    @contextmanager
    def opened(self, on_bytes: OnBytes = ignore_bytes) -> Iterator[dict[str, Any]]:
        """The body as arguments of an httpx request, good for sending it once.

        Raises:
            FileMissing: a file cannot be read.
        """
        if not self.files:
            yield {"json": self.fields}
            return
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(_open(name, self.files[name])) for name in self.files
            }
            _measure(list(opened.values()), on_bytes)
            # Text is quoted, so that a prompt of null, or one in quotation marks, stays what it is.
            texts = {name: json.dumps(value) for name, value in self.fields.items()}
            # Of a file's name the server has no use.
            yield {"data": texts, "files": {name: (name, file) for name, file in opened.items()}}


def make_upload(media: Mapping[str, Source | None], fields: Mapping[str, object]) -> Upload:
    """Sort out which media are files; what is None is left out."""
    given = {name: source for name, source in media.items() if source is not None}
    urls = {f"{name}_url": str(source) for name, source in given.items() if is_url(source)}
    files = {name: Path(source) for name, source in given.items() if not is_url(source)}
    return Upload({**{k: v for k, v in fields.items() if v is not None}, **urls}, files)


def is_url(source: Source) -> bool:
    """Whether the server is to fetch it."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


class _CountedFile(io.FileIO):
    """A file that tells how much of it was read."""

    on_read: Callable[[int], None]

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self.on_read(len(data))
        return data


def _measure(files: list[_CountedFile], on_bytes: OnBytes) -> None:
    """Count what is read of all the files together."""
    total = sum(file.seek(0, io.SEEK_END) for file in files)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_bytes(done, total)

    for file in files:
        file.seek(0)
        file.on_read = count


def _open(name: str, path: Path) -> _CountedFile:
    try:
        return _CountedFile(path)
    except OSError as error:
        raise FileMissing(f"{path} cannot be read.", field=name) from error
