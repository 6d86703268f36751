"""Bodies into files and out of them: the cap, the pace, and nothing left behind."""

import asyncio
import gzip
import socket
import ssl
import tracemalloc
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinitetalk.errors import (
    InfiniteTalkError,
    InputTooLarge,
    SourceTimeout,
    SourceUnreachable,
    StorageFull,
)
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from tests.serving.fetching import URL, Answer, caller, listening, replying, sending, stalling

CAP = 100_000
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (replying(b"x" * CAP), b"x" * CAP),
        (replying(b"x", "203 Else", ["Content-Encoding: Identity"]), b"x"),
        (replying(b"<html>", headers=["Content-Type: image/png"]), b"<html>"),
        (sending(CHUNKED, chunk(b"ab"), chunk(b"c" * 70_000), chunk(b"")), b"ab" + b"c" * 70_000),
        (sending(OK + b"\r\n", b"until the end"), b"until the end"),
        (sending(b"HTTP/1.0 200 OK\r\n\r\n", b"until the end"), b"until the end"),
        (sending(OK + b"Content-Length: 4\r\n\r\n", b"four, and more"), b"four"),
        (sending(OK + b"Content-Length: 4, 4\r\n\r\n", b"four"), b"four"),
    ],
    ids=["at the cap", "203", "any type", "chunked", "no length", "1.0", "short length", "twice"],
)
async def test_a_body_is_kept_as_it_came(tmp_path: Path, answer: Answer, body: bytes) -> None:
    target = tmp_path / "a"
    async with listening(answer) as server:
        size = await caller(server).fetcher.download(URL, target, max_bytes=CAP, field="image_url")

    assert (size, target.read_bytes()) == (len(body), body)
    assert list(tmp_path.iterdir()) == [target]


BOMB = gzip.compress(b"\0" * 10_000_000)
TOO_LARGE = "image_url is larger than 100000 bytes"
PACKED = "its server sent a compressed answer"
EMPTY = "its server sent an empty answer"
BROKEN = "broke off before its answer was complete"
SLOW = "is too slow: its server takes too long"
FAULTS: dict[str, tuple[Answer, type[InfiniteTalkError], str]] = {
    "one byte over": (replying(b"x" * (CAP + 1)), InputTooLarge, TOO_LARGE),
    "over, no length": (sending(OK + b"\r\n", b"x" * (CAP + 1)), InputTooLarge, TOO_LARGE),
    "over, chunked": (sending(CHUNKED, chunk(b"x" * (CAP + 1))), InputTooLarge, TOO_LARGE),
    "gzip": (replying(BOMB, headers=["Content-Encoding: gzip"]), SourceUnreachable, PACKED),
    "br": (replying(b"x", headers=["content-encoding: br"]), SourceUnreachable, PACKED),
    "gzip in transfer": (
        sending(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", chunk(BOMB), chunk(b"")),
        SourceUnreachable,
        "its answer is not HTTP",
    ),
    "empty": (replying(), SourceUnreachable, EMPTY),
    "empty, chunked": (sending(CHUNKED, chunk(b"")), SourceUnreachable, EMPTY),
    "no content": (sending(b"HTTP/1.1 204 No\r\n\r\n"), SourceUnreachable, EMPTY),
    "cut": (sending(OK + b"Content-Length: 9\r\n\r\n", b"x"), SourceTimeout, BROKEN),
    "cut, chunked": (sending(CHUNKED, chunk(b"x")), SourceTimeout, BROKEN),
    "no chunks": (sending(CHUNKED, b"what?\r\n"), SourceTimeout, BROKEN),
    "stalled": (stalling(OK + b"Content-Length: 9\r\n\r\n", b"x"), SourceTimeout, SLOW),
    "dripping": (sending(OK + b"\r\n", *[b"x"] * 99, pause_s=0.02), SourceTimeout, SLOW),
    "dripping chunk head": (
        sending(CHUNKED, b"9;", *[b"x"] * 99, pause_s=0.02),
        SourceTimeout,
        SLOW,
    ),
    "fast, then dripping": (
        sending(OK + b"\r\n", b"x" * 50_000, *[b"x"] * 99, pause_s=0.02),
        SourceTimeout,
        SLOW,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_wrong_body_has_its_error_and_leaves_no_file(tmp_path: Path, fault: str) -> None:
    answer, kind, message = FAULTS[fault]
    async with listening(answer) as server:
        world = caller(server, grace_s=0.2 if message == SLOW else 5.0, retries=0)

        with pytest.raises(kind, match=message) as raised:
            await world.fetcher.download(URL, tmp_path / "a", max_bytes=CAP, field="image_url")

    assert raised.value.field == "image_url"
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.sampled_from((b"", b"HTTP/1.1 ", OK, OK + b"\r\n", CHUNKED)), st.binary())
async def test_whatever_bytes_come_the_result_is_a_file_or_an_error_of_ours(
    start: bytes, rest: bytes
) -> None:
    with TemporaryDirectory() as folder:
        target = Path(folder, "a")
        dialer = httpcore.AsyncMockBackend([start + rest])
        fetcher = Fetcher(FetchPolicy(retries=0), resolve=caller().names, dialer=dialer, tls=NO_TLS)

        try:
            await fetcher.download(URL, target, max_bytes=10, field="image_url")
        except (SourceUnreachable, SourceTimeout, InputTooLarge):
            assert list(Path(folder).iterdir()) == []
        else:
            assert list(Path(folder).iterdir()) == [target]


async def test_a_length_over_the_cap_is_believed_before_a_byte_is_read(tmp_path: Path) -> None:
    answer = stalling(OK + b"Content-Length: 100001\r\n\r\n")
    async with listening(answer) as server:
        world = caller(server, retries=0)

        with pytest.raises(InputTooLarge):
            await world.fetcher.download(URL, tmp_path / "a", max_bytes=CAP, field="image_url")


async def test_an_endless_body_is_left_soon_after_the_cap(tmp_path: Path) -> None:
    sent = 0

    async def never_end(_: StreamReader, writer: StreamWriter) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        writer.write(CHUNKED)
        while True:
            writer.write(chunk(b"x" * 10_000))
            await writer.drain()
            sent += 10_000

    async with listening(never_end) as server:
        with pytest.raises(InputTooLarge):
            await caller(server).fetcher.download(
                URL, tmp_path / "a", max_bytes=CAP, field="image_url"
            )

    assert sent < 20 * CAP  # what the sockets hold comes on top of the cap


async def test_a_steady_transfer_may_take_longer_than_the_grace(tmp_path: Path) -> None:
    pieces = [b"x" * 1000] * 12
    async with listening(sending(OK + b"\r\n", *pieces, pause_s=0.06)) as server:
        world = caller(server, grace_s=0.4, retries=0)

        size = await world.fetcher.download(URL, tmp_path / "a", max_bytes=CAP, field="image_url")

    assert size == 12_000


async def test_a_download_that_is_canceled_leaves_no_file_and_no_connection(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def half(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 9\r\n\r\nhalf")
        await reader.read()
        gone.set()

    async with listening(half) as server:
        fetch = caller(server).fetcher.download(
            URL, tmp_path / "a", max_bytes=CAP, field="image_url"
        )
        task = asyncio.create_task(fetch)
        async with asyncio.timeout(5):
            while not list(tmp_path.iterdir()):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            await gone.wait()

    assert task.cancelled()
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"a longer piece of another attempt")
    async with listening(replying(b"body")) as server:
        await caller(server).fetcher.download(URL, tmp_path / "a", max_bytes=CAP, field="image_url")

    assert (tmp_path / "a").read_bytes() == b"body"
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to("/dev/full")
    async with listening(replying(b"x" * CAP)) as server:
        with pytest.raises(StorageFull):
            await caller(server).fetcher.download(
                URL, tmp_path / "a", max_bytes=CAP, field="image_url"
            )

    assert list(tmp_path.iterdir()) == []


async def test_a_large_file_is_sent_with_its_length_and_in_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "result.mp4"
    with source.open("wb") as file:
        file.truncate(50_000_000)
    received = 0

    async def count(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal received
        while received < 50_000_000 and (piece := await reader.read(1 << 16)):
            received += len(piece)
        await replying()(reader, writer)

    async with listening(count) as server:
        tracemalloc.start()
        status = await caller(server).fetcher.put(URL, source, "video/mp4", field="output_url")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (status, received) == (200, 50_000_000)
    assert "\r\nContent-Length: 50000000\r\n" in server.heads[0]
    assert "Transfer-Encoding" not in server.heads[0]
    assert peak < 4_000_000


async def test_a_store_may_think_about_a_large_file_longer_than_the_grace(tmp_path: Path) -> None:
    (tmp_path / "result.mp4").write_bytes(b"video")
    thoughtful = sending(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", pause_s=0.3)
    async with listening(thoughtful) as server:
        world = caller(server, grace_s=0.1, connect_s=0.05)
        source = tmp_path / "result.mp4"

        assert await world.fetcher.put(URL, source, "video/mp4", field="output_url") == 200


async def test_a_server_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    source = tmp_path / "result.mp4"
    with source.open("wb") as file:
        file.truncate(50_000_000)

    async def take_nothing(_: StreamReader, writer: StreamWriter) -> None:
        writer.transport.pause_reading()
        await asyncio.Event().wait()

    async with listening(take_nothing) as server:
        world = caller(server, grace_s=0.1)

        with pytest.raises(SourceTimeout, match=SLOW):
            await world.fetcher.put(URL, source, "video/mp4", field="output_url")
