"""The body of a request, read as it arrives: its fields, and its files on disk.

multipart/form-data, JSON and urlencoded forms. Bytes are counted before anything is done with them,
and one batch of them is in memory at a time. What the fields mean is the concern of `request`.

Values of a form are text. Stock BentoML clients write each of them as JSON, people and browsers do
not, so a value is decoded only where nothing else can be meant: a JSON string in its quotes is that
string, and the bare word null is an absent field, because Python's None arrives so. (Nobody wants a
video of "null", and who does can quote it.) Numbers and lists stay text, for `request` to read.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from anyio import to_thread
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from infinitetalk.errors import InputTooLarge, MalformedRequest, UnsupportedMedia
from infinitetalk.serving.multipart import BodyLimits, Parts
from infinitetalk.serving.request import FREE_TEXT, shown

_BATCH_BYTES = 1 << 18  # parsed, hashed and written at once, in a thread


@dataclass(frozen=True, slots=True)
class Fields:
    """What a body holds: values, and files with their sha256 in hex."""

    values: Mapping[str, object]
    files: Mapping[str, Path] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


async def read_body(request: Request, folder: Path, limits: BodyLimits) -> Fields:
    """The fields of a request; its files are then in `folder`, each under the name of its field.

    What was written before an error is left to the caller.

    Raises:
        UnsupportedMedia: the content type is none of the three.
        MalformedRequest: the body is not what its content type says, or a field is there twice.
        InputTooLarge: the body, its text or a file is longer than allowed.
        InvalidField: a file stands where none belongs.
        ClientDisconnect: the client went away.
        StorageFull: the disk has no room.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        return await _read_multipart(request, options.get(b"boundary", b""), folder, limits)
    if kind == b"application/json":
        return Fields(_parse_json(await _read_text(request, limits)))
    if kind == b"application/x-www-form-urlencoded":
        return Fields(_parse_urlencoded(await _read_text(request, limits), limits.parts))
    raise UnsupportedMedia("Send multipart/form-data, JSON or application/x-www-form-urlencoded.")


async def read_json(request: Request, limits: BodyLimits) -> Mapping[str, object]:
    """The fields of a request that has to be JSON.

    Raises:
        UnsupportedMedia, MalformedRequest, InputTooLarge: it is not, or is too long.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"application/json":
        raise UnsupportedMedia("Send application/json.")
    return _parse_json(await _read_text(request, limits))


async def _read_multipart(
    request: Request, boundary: bytes, folder: Path, limits: BodyLimits
) -> Fields:
    if not boundary:
        raise MalformedRequest("The content type names no boundary between the parts.")
    with Parts(boundary, folder, limits) as parts:
        async with aclosing(_batches(request, limits.total_bytes)) as batches:
            async for batch in batches:
                await to_thread.run_sync(parts.feed, batch)
        parts.finish()
    return Fields(_form_values(parts.texts), parts.files, parts.digests)


async def _read_text(request: Request, limits: BodyLimits) -> str:
    async with aclosing(_batches(request, limits.text_bytes)) as batches:
        body = b"".join([batch async for batch in batches])
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("The body is not UTF-8.") from error


async def _batches(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces of about `_BATCH_BYTES`; a longer one is refused as soon as that shows."""
    _check_length(request.headers.get("content-length", "0"), max_bytes)
    total, batch = 0, bytearray()
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            total += len(chunk)
            if total > max_bytes:
                raise _too_large(max_bytes)
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                yield bytes(batch)
                batch.clear()
    yield bytes(batch)


def _check_length(declared: str, max_bytes: int) -> None:
    if not re.fullmatch(r"[0-9]{1,18}", declared):
        raise MalformedRequest("The Content-Length is no number.")
    if int(declared) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> InputTooLarge:
    return InputTooLarge(f"The body is larger than {max_bytes / 1e6:g} MB.")


def _parse_json(text: str) -> dict[str, object]:
    try:
        values = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # nested too deep, or a number of 5,000 digits
        raise MalformedRequest("The body is no JSON that can be read.") from error
    if not isinstance(values, dict):
        raise MalformedRequest("The body must be a JSON object.")
    return values


def _parse_urlencoded(text: str, max_fields: int) -> dict[str, object]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=max_fields)
    except ValueError as error:
        raise MalformedRequest("The body is no urlencoded form that can be read.") from error
    return _form_values(_once(pairs))


def _form_values(texts: Mapping[str, str]) -> dict[str, object]:
    """The values of a form without those that stand for nothing."""
    return {
        name: _unquoted(text)
        for name, text in texts.items()
        # An input that was left empty in a browser; only a prompt may be empty on purpose.
        if text != "null" and (text or name in FREE_TEXT)
    }


def _unquoted(text: str) -> str:
    """What a JSON string says; any other text as it stands."""
    if len(text) < 2 or not text[0] == text[-1] == '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:  # a sentence that begins and ends with a quotation
        return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise MalformedRequest(f"The field '{shown(name)}' is there twice.")
        values[name] = value
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"{name} is no JSON.")
