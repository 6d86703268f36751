"""The parts of a multipart/form-data body: text is kept, files go to disk as they come.

Not asynchronous: whoever reads the body feeds it in, in a thread. A file is named after its field;
the name and the type that the client gave it are never used.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from infinitetalk.config import Settings
from infinitetalk.errors import InputTooLarge, InvalidField, MalformedRequest, StorageFull
from infinitetalk.jobfolder import MEDIA_FIELDS
from infinitetalk.media.publish import NO_ROOM
from infinitetalk.serving.request import GenerateRequest, shown, unknown_field

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What the body of one request may bring."""

    file_bytes: int
    text_bytes: int = _MEGABYTE  # all values of a form together, or a JSON body
    parts: int = 64
    header_bytes: int = 4096  # one header line of a part

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(file_bytes=settings.max_file_megabytes * _MEGABYTE)

    @property
    def total_bytes(self) -> int:
        """A whole multipart body: its files, its text, and as much again between the parts."""
        return len(MEDIA_FIELDS) * self.file_bytes + 2 * self.text_bytes


class Parts:
    """Takes in a body; after `finish`, `texts`, `files` and `digests` (sha256) say what it held.

    To be used in a `with` block, which closes a file that was not finished.
    """

    def __init__(self, boundary: bytes, folder: Path, limits: BodyLimits) -> None:
        self.texts: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.digests: dict[str, str] = {}
        self._folder, self._limits = folder, limits
        self._text_left = limits.text_bytes
        self._names: set[str] = set()
        self._header, self._value, self._disposition = b"", b"", b""
        self._part: _Text | _File | None = None
        self._is_whole = False
        with _well_formed():
            self._parser = self._new_parser(boundary)

    def feed(self, data: bytes) -> None:
        """The next bytes of the body.

        Raises:
            MalformedRequest: they are no multipart, or a part is there twice.
            InvalidField: a file stands where none belongs.
            InputTooLarge: a file or the text is longer than allowed; the rest is not wanted.
            StorageFull: the disk has no room.
        """
        with _well_formed(), _room():
            self._parser.write(data)

    def finish(self) -> None:
        """To be called after the last byte.

        Raises:
            MalformedRequest: the body ends before its end.
        """
        if not self._is_whole:
            raise MalformedRequest("The body ends in the middle of a part.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(self._part, _File):
            with suppress(OSError):  # what a full disk did not take, it does not take now
                self._part.file.close()

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._take_header,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take_data,
                "on_part_end": self._close,
                "on_end": self._end,
            },
            max_header_size=self._limits.header_bytes,
        )

    def _begin(self) -> None:
        self._disposition = b""
        if len(self._names) >= self._limits.parts:
            raise MalformedRequest(f"The body has more than {self._limits.parts} parts.")

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode()
        if not name:
            raise MalformedRequest("A part of the body has no name.")
        if name in self._names:
            raise MalformedRequest(f"The part '{shown(name)}' is there twice.")
        self._names.add(name)
        file_name = options.get(b"filename")
        if file_name is None:
            self._part = _Text(name, self._text_left)
        else:
            _check_takes_a_file(name)
            path = self._folder / name
            self._part = _File(name, path, self._limits.file_bytes, is_chosen=file_name != b"")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        self._part.write(memoryview(data)[start:end])

    def _close(self) -> None:
        part, self._part = self._part, None
        if isinstance(part, _Text):
            self.texts[part.name] = part.data.decode()
            self._text_left -= len(part.data)
        elif part is not None:
            part.file.close()
            # A form in a browser sends a nameless, empty file where none was chosen.
            if part.is_chosen or part.size:
                self.files[part.name] = part.path
                self.digests[part.name] = part.hash.hexdigest()
            else:
                part.path.unlink()

    def _end(self) -> None:
        self._is_whole = True


class _Text:
    """A part that is a value."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.data, self._limit = name, bytearray(), limit

    def write(self, data: memoryview) -> None:
        self.data += data
        if len(self.data) > self._limit:
            raise InputTooLarge("The text of the request is too long.", field=shown(self.name))


class _File:
    """A part that is a file, on its way to the disk."""

    def __init__(self, name: str, path: Path, limit: int, *, is_chosen: bool) -> None:
        self.name, self.path, self.is_chosen = name, path, is_chosen
        self.file = path.open("wb")
        self.hash = hashlib.sha256()
        self.size, self._limit = 0, limit

    def write(self, data: memoryview) -> None:
        self.size += len(data)
        if self.size > self._limit:
            limit = f"{self._limit / _MEGABYTE:g} MB"
            raise InputTooLarge(f"{self.name} is larger than {limit}.", field=self.name)
        self.file.write(data)
        self.hash.update(data)


def _check_takes_a_file(name: str) -> None:
    if name in GenerateRequest.model_fields:
        raise InvalidField(f"{name} must be text, not a file.", field=name)
    if name not in MEDIA_FIELDS:
        raise unknown_field(name)


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise MalformedRequest("The body is no well-formed multipart/form-data.") from error
    except UnicodeDecodeError as error:
        raise MalformedRequest("The body is not UTF-8.") from error


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull("The disk has no room for the request.") from error
        raise
