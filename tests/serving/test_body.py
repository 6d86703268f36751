"""Bodies as they arrive: whole, in crumbs, too long, broken, or never to their end."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from urllib.parse import urlencode

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from infinitetalk.errors import (
    InfiniteTalkError,
    InputTooLarge,
    InvalidField,
    MalformedRequest,
    StorageFull,
    UnsupportedMedia,
)
from infinitetalk.serving.body import Fields, read_body
from infinitetalk.serving.multipart import BodyLimits
from infinitetalk.serving.request import parse_request

LIMITS = BodyLimits(file_bytes=10_000, text_bytes=5_000, parts=6)
MULTIPART = 'multipart/form-data; boundary="frontier"'
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
DISCONNECT = None


class Wire:
    """What a client sends, chunk by chunk, and how much of it was taken."""

    def __init__(self, chunks: Iterable[bytes | None]) -> None:
        self._chunks = iter(chunks)
        self.taken = 0

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(0)  # as a socket does, which now and then has nothing
        chunk = next(self._chunks, b"")
        if chunk is DISCONNECT:
            return {"type": "http.disconnect"}
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    def request(self, content_type: str, **headers: str) -> Request:
        named = {"content-type": content_type, **headers}
        raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in named.items()]
        return Request({"type": "http", "method": "POST", "headers": raw}, self.receive)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Fields]:
    """Read a body into `tmp_path`."""

    def run(
        content_type: str, *chunks: bytes | None, limits: BodyLimits = LIMITS, **headers: str
    ) -> Fields:
        request = Wire(chunks).request(content_type, **headers)
        return asyncio.run(read_body(request, tmp_path, limits))

    return run


def part(name: str, data: bytes, file_name: str | None = None, more: str = "") -> bytes:
    of_file = "" if file_name is None else f'; filename="{file_name}"'
    head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n{more}\r\n'
    return head.encode() + data + b"\r\n"


END = b"--frontier--\r\n"
FACE = bytes(range(256)) * 20 + b"\r\n--frontie\r\n--frontierX\r\n\r"
WHOLE = (
    part("prompt", "sagt „guten Tag“".encode())
    + part("image", FACE, "../../etc/passwd.png", "Content-Type: text/html\r\n")
    + part("steps", b"4")
    + part("audio", b"", "silent.wav")
    + END
)


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_a_multipart_body_means_the_same_in_pieces_of_any_size(
    size: int, read: Callable[..., Fields], tmp_path: Path
) -> None:
    pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
    fields = read(MULTIPART, *pieces)
    assert fields.values == {"prompt": "sagt „guten Tag“", "steps": "4"}
    assert {name: path.read_bytes() for name, path in fields.files.items()} == {
        "image": FACE,
        "audio": b"",
    }
    assert fields.digests["image"] == hashlib.sha256(FACE).hexdigest()
    assert fields.files["image"] == tmp_path / "image"


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/x",
        "..%2f",
        "CON",
        "a.zip/../../x",
        "n" * 300,
        "a/b\\c",
        "\u202egnp.exe",
        'x\\"y',
        "a;b=c",
    ],
)
def test_the_clients_file_names_are_never_used(
    name: str, read: Callable[..., Fields], tmp_path: Path
) -> None:
    read(MULTIPART, part("image", b"x", name) + END)
    assert [path.name for path in tmp_path.rglob("*")] == ["image"]


def test_an_input_for_files_that_was_left_empty_is_absent(
    read: Callable[..., Fields], tmp_path: Path
) -> None:
    octets = "Content-Type: application/octet-stream\r\n"
    fields = read(MULTIPART, part("audio_2", b"", "", octets) + part("image", b"x", "") + END)
    assert list(fields.files) == list(fields.digests) == ["image"]
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("hello", "hello"),
        ('"hello"', "hello"),
        ('"say \\"hi\\" \\u00e9"', 'say "hi" é'),
        ('"Hi" she said, "you"', '"Hi" she said, "you"'),
        ('"', '"'),
        ('""', ""),
        ('"null"', "null"),
        ("123", "123"),
        ("true", "true"),
        ('{"a": 1}', '{"a": 1}'),
        (" null", " null"),
        ("", ""),
    ],
)
def test_a_form_value_is_decoded_only_if_it_is_a_json_string(
    sent: str, meant: str, read: Callable[..., Fields]
) -> None:
    assert read(MULTIPART, part("prompt", sent.encode()) + END).values == {"prompt": meant}
    assert read(FORM, urlencode({"prompt": sent}).encode()).values == {"prompt": meant}


@pytest.mark.parametrize("field", ["prompt", "seed", "image_url", "boxes", "image"])
def test_null_in_a_form_is_what_python_calls_none(field: str, read: Callable[..., Fields]) -> None:
    assert read(MULTIPART, part(field, b"null") + END).values == {}


@pytest.mark.parametrize("field", ["seed", "order", "image_url"])
def test_an_input_that_was_left_empty_is_absent_unless_it_is_a_prompt(
    field: str, read: Callable[..., Fields]
) -> None:
    assert read(FORM, f"{field}=&negative_prompt=".encode()).values == {"negative_prompt": ""}


def test_json_keeps_its_types(read: Callable[..., Fields]) -> None:
    values = {"prompt": "é", "steps": 4, "seed": None, "boxes": [[0, 1, 2, 3]]}
    assert read(f"{JSON}; charset=utf-8", json.dumps(values).encode()).values == values


DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000


MALFORMED = {
    "nothing": (JSON, b""),
    "half an object": (JSON, b"{"),
    "a list": (JSON, b"[]"),
    "a string": (JSON, b'"text"'),
    "too deep": (JSON, DEEP),
    "NaN": (JSON, b'{"seed": NaN}'),
    "minus infinity": (JSON, b'{"seed": -Infinity}'),
    "endless number": (JSON, b'{"seed": ' + b"9" * 5000 + b"}"),
    "key twice": (JSON, b'{"seed": 1, "seed": 1}'),
    "no utf-8": (JSON, b'{"prompt": "\xff"}'),
    "utf-16": (JSON, json.dumps({"prompt": "x"}).encode("utf-16")),
    "field twice": (FORM, b"seed=1&seed=2"),
    "quoted, no utf-8": (FORM, b"prompt=%ff"),
    "form, no utf-8": (FORM, b"prompt=\xff"),
    "too many fields": (FORM, b"&".join(b"a%d=1" % number for number in range(7))),
    "no boundary": ("multipart/form-data", WHOLE),
    "empty boundary": ("multipart/form-data; boundary=", WHOLE),
    "long boundary": (f"multipart/form-data; boundary={'x' * 300}", WHOLE),
    "other boundary": ("multipart/form-data; boundary=other", WHOLE),
    "no part": (MULTIPART, b""),
    "empty lines": (MULTIPART, b"\r\n\r\n"),
    "cut in the end": (MULTIPART, WHOLE[:-10]),
    "cut in a file": (MULTIPART, WHOLE[:1000]),
    "cut in a header": (MULTIPART, WHOLE[:50]),
    "text twice": (MULTIPART, part("prompt", b"a") + part("prompt", b"b") + END),
    "file twice": (MULTIPART, part("image", b"a", "x") + part("image", b"b", "y") + END),
    "part, no utf-8": (MULTIPART, part("prompt", b"\xff") + END),
    "empty name": (MULTIPART, part("", b"a") + END),
    "no name": (MULTIPART, b"--frontier\r\nContent-Type: text/plain\r\n\r\na\r\n" + END),
    "name, no utf-8": (MULTIPART, part("prompt", b"").replace(b"prompt", b"\xff") + END),
    "no header": (MULTIPART, b"--frontier\r\nno header\r\n\r\na\r\n" + END),
    "long header": (MULTIPART, part("prompt", b"a", more=f"X: {'x' * 5000}\r\n") + END),
    "many headers": (MULTIPART, part("prompt", b"a", more="X: x\r\n" * 20) + END),
    "many parts": (MULTIPART, b"".join(part(f"a{number}", b"") for number in range(7)) + END),
}


@pytest.mark.parametrize(("content_type", "body"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_what_it_says_is_malformed(
    content_type: str, body: bytes, read: Callable[..., Fields]
) -> None:
    limits = BodyLimits(file_bytes=10_000, text_bytes=200_000, parts=6)
    with pytest.raises(MalformedRequest) as refused:
        read(content_type, body, limits=limits)
    assert refused.value.message.isprintable() and "\\x" not in refused.value.message


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/vnd.bentoml+pickle", "??"])
def test_other_content_types_are_refused_before_the_body_is_read(
    content_type: str, tmp_path: Path
) -> None:
    wire = Wire([b"x" * 100])
    with pytest.raises(UnsupportedMedia):
        asyncio.run(read_body(wire.request(content_type), tmp_path, LIMITS))
    assert wire.taken == 0


@pytest.mark.parametrize(
    ("parts", "error", "field"),
    [
        (part("prompt", b"a", "a.txt"), InvalidField, "prompt"),
        (part("image_url", b"a", "a.txt"), InvalidField, "image_url"),
        (part("portrait", b"a", "a.png"), InvalidField, "portrait"),
        (part("../image", b"a", "a.png"), InvalidField, "../image"),
        (part("image", b"x" * 10_001, "a.png"), InputTooLarge, "image"),
        (part("prompt", b"x" * 5_001), InputTooLarge, "prompt"),
        (part("prompt", b"x" * 3000) + part("seed", b"1" * 3000), InputTooLarge, "seed"),
    ],
)
def test_a_part_that_cannot_be_taken_is_named(
    parts: bytes, error: type[InfiniteTalkError], field: str, read: Callable[..., Fields]
) -> None:
    with pytest.raises(error) as refused:
        read(MULTIPART, parts + END)
    assert refused.value.field == field


@pytest.mark.parametrize("parts", [part("image", b"x" * 10_000, "a"), part("prompt", b"x" * 5_000)])
def test_a_limit_itself_is_allowed(parts: bytes, read: Callable[..., Fields]) -> None:
    read(MULTIPART, parts + END)


@pytest.mark.parametrize("content_type", [JSON, FORM, MULTIPART])
def test_a_declared_length_above_the_limit_is_refused_before_the_body_is_read(
    content_type: str, tmp_path: Path
) -> None:
    wire = Wire([b"x" * 100])
    request = wire.request(content_type, content_length="50000000")
    with pytest.raises(InputTooLarge):
        asyncio.run(read_body(request, tmp_path, LIMITS))
    assert wire.taken == 0


@pytest.mark.parametrize("declared", ["-1", "many", "", "1" * 5000])
def test_a_length_that_is_no_number_is_malformed(
    declared: str, read: Callable[..., Fields]
) -> None:
    with pytest.raises(MalformedRequest):
        read(JSON, b"{}", content_length=declared)


@pytest.mark.parametrize(
    ("content_type", "start", "limit"),
    [
        (JSON, b'{"prompt": "', LIMITS.text_bytes),
        (FORM, b"prompt=", LIMITS.text_bytes),
        (MULTIPART, part("image", b"", "a")[:-2], 3 * LIMITS.file_bytes),
        (MULTIPART, END, LIMITS.total_bytes),  # what follows the end counts as well
    ],
)
def test_an_endless_body_is_left_at_its_limit(
    content_type: str, start: bytes, limit: int, tmp_path: Path
) -> None:
    wire = Wire((start, *repeat(b"x" * 999, 10_000)))
    with pytest.raises(InputTooLarge):
        asyncio.run(read_body(wire.request(content_type), tmp_path, LIMITS))
    assert wire.taken <= limit + 300_000  # a batch is looked at as a whole


@pytest.mark.parametrize("content_type", [JSON, FORM, MULTIPART])
def test_a_declared_length_is_no_way_around_the_count(content_type: str, tmp_path: Path) -> None:
    start = part("image", b"", "a")[:-2] if content_type == MULTIPART else b'{"prompt": "'
    wire = Wire((start, *repeat(b"x" * 999, 10_000)))
    with pytest.raises(InputTooLarge):
        request = wire.request(content_type, content_length="10")
        asyncio.run(read_body(request, tmp_path, LIMITS))
    assert wire.taken <= 3 * LIMITS.file_bytes + 300_000


def test_the_default_limit_of_text_is_a_megabyte(read: Callable[..., Fields]) -> None:
    limits = BodyLimits(file_bytes=1)
    with pytest.raises(InputTooLarge, match="1 MB"):
        read(JSON, json.dumps({"prompt": "x" * 1_000_000}).encode(), limits=limits)
    read(JSON, json.dumps({"prompt": "x" * 999_000}).encode(), limits=limits)


@pytest.mark.parametrize("content_type", [JSON, FORM, MULTIPART])
def test_a_client_that_goes_away_leaves_no_open_file(
    content_type: str, read: Callable[..., Fields]
) -> None:
    before = {(file.path, file.fd) for file in psutil.Process().open_files()}
    with pytest.raises(ClientDisconnect):
        read(content_type, part("image", b"x" * 100, "a")[:-2], b"x" * 5, DISCONNECT)
    assert {(file.path, file.fd) for file in psutil.Process().open_files()} == before


def test_a_full_disk_is_said_to_be_full(read: Callable[..., Fields], tmp_path: Path) -> None:
    (tmp_path / "image").symlink_to("/dev/full")
    with pytest.raises(StorageFull):
        read(MULTIPART, part("image", b"x" * 9000, "a") + END)


@given(st.text(max_size=100))
def test_any_prompt_arrives_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    stock, quoted = json.dumps(text), urlencode({"prompt": json.dumps(text)})
    forms = [(JSON, json.dumps({"prompt": text}).encode()), (FORM, quoted.encode())]
    forms.append((MULTIPART, part("prompt", stock.encode()) + END))
    for content_type, body in forms:
        request = Wire([body]).request(content_type)
        assert asyncio.run(read_body(request, folder, LIMITS)).values == {"prompt": text}


def test_what_httpx_sends_is_understood(read: Callable[..., Fields]) -> None:
    sent = httpx.Request(
        "POST",
        "http://localhost",
        data={"prompt": "a&b=ü", "steps": "4"},
        files={"image": ("ü.png", b"face"), "audio": ("a.wav", b"voice", "audio/wav")},
    )
    fields = read(sent.headers["content-type"], sent.read())
    assert parse_request(fields.values).prompt == "a&b=ü"
    assert {name: path.read_bytes() for name, path in fields.files.items()} == {
        "image": b"face",
        "audio": b"voice",
    }


def test_300_megabytes_grow_no_memory_and_hold_up_nobody(tmp_path: Path) -> None:
    size, chunk = 300_000_000, b"\r\n--frontie" * 6000
    chunks = repeat(chunk, size // len(chunk))
    body = (part("image", b"", "a")[:-2], *chunks, b"\r\n" + END)
    process = psutil.Process()
    peak, longest = [process.memory_info().rss], [0.0]

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest[0] = max(longest[0], time.monotonic() - before)
            peak.append(process.memory_info().rss)

    async def read() -> Fields:
        watching = asyncio.create_task(watch())
        try:
            request = Wire(body).request(MULTIPART)
            return await read_body(request, tmp_path, BodyLimits(file_bytes=size))
        finally:
            watching.cancel()

    fields = asyncio.run(read())
    assert fields.files["image"].stat().st_size > 0.99 * size
    fields.files["image"].unlink()
    assert max(peak) - peak[0] < 10_000_000
    assert longest[0] < 0.5
