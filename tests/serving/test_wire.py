"""One request over a pinned connection: who is dialled, what TLS checks, what breaks and how."""

import asyncio
import datetime
import os
import socket
import ssl
import struct
from asyncio import StreamReader, StreamWriter
from pathlib import Path

import httpcore
import pytest
import trustme

from infinitetalk.errors import InfiniteTalkError, SourceTimeout, SourceUnreachable
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from infinitetalk.serving.wire import PinnedDialer
from tests.serving.fetching import (
    PUBLIC,
    URL,
    Answer,
    Switchboard,
    caller,
    listening,
    replying,
    sending,
    stalling,
)

TLS_URL = "https://files.example/a"
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_the_checked_address_is_dialled_and_the_host_header_keeps_the_name() -> None:
    async with listening(replying()) as server:
        world = caller(server)

        assert await world.fetcher.post(URL, b"", {}, field="callback_url") == 200

    assert world.dialer.dialled == [(PUBLIC, 80)]
    assert "\r\nHost: files.example\r\n" in server.heads[0]


async def test_tls_asks_for_the_name_and_not_for_the_address(
    authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    tls = server_tls(authority.issue_cert("files.example"))
    asked: list[str | None] = []
    tls.sni_callback = lambda _object, name, _context: asked.append(name)
    async with listening(replying(), tls=tls) as server:
        world = caller(server, tls=client_tls)

        assert await world.fetcher.post(TLS_URL, b"", {}, field="callback_url") == 200

    assert asked == ["files.example"]
    assert world.dialer.dialled == [(PUBLIC, 443)]
    assert "\r\nHost: files.example\r\n" in server.heads[0]


@pytest.mark.parametrize("fault", ["another host", "expired", "another authority", "its address"])
async def test_a_certificate_that_is_not_valid_is_named(
    fault: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    certificate = {
        "another host": lambda: authority.issue_cert("other.example"),
        "expired": lambda: authority.issue_cert("files.example", not_after=LONG_AGO),
        "another authority": lambda: trustme.CA().issue_cert("files.example"),
        "its address": lambda: authority.issue_cert(PUBLIC),
    }[fault]()
    async with listening(replying(), tls=server_tls(certificate)) as server:
        world = caller(server, tls=client_tls)

        with pytest.raises(SourceUnreachable, match="reached: its certificate is not valid"):
            await world.fetcher.post(TLS_URL, b"", {}, field="callback_url")

    assert server.heads == []


async def test_without_trust_of_our_own_the_usual_authorities_are_asked(
    authority: trustme.CA,
) -> None:
    tls = server_tls(authority.issue_cert("files.example"))
    async with listening(replying(), tls=tls) as server:
        world = caller(server)
        fetcher = Fetcher(FetchPolicy(), resolve=world.names, dialer=world.dialer)

        with pytest.raises(SourceUnreachable, match="its certificate is not valid"):
            await fetcher.post(TLS_URL, b"", {}, field="callback_url")


async def test_a_server_that_does_not_speak_tls_is_named(client_tls: ssl.SSLContext) -> None:
    async with listening(sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), is_patient=False) as server:
        world = caller(server, tls=client_tls)

        with pytest.raises(SourceUnreachable, match="no TLS connection can be made"):
            await world.fetcher.post(TLS_URL, b"", {}, field="callback_url")


async def test_a_tls_handshake_that_stalls_ends(client_tls: ssl.SSLContext) -> None:
    async with listening(stalling()) as server:
        world = caller(server, tls=client_tls, connect_s=0.1)

        with pytest.raises(SourceTimeout):
            await world.fetcher.post(TLS_URL, b"", {}, field="callback_url")


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
async def test_tls_that_breaks_after_the_handshake_is_a_broken_answer(
    tmp_path: Path, before: bytes, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    async def break_tls(_: StreamReader, writer: StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"this is no record of TLS")

    tls = server_tls(authority.issue_cert("files.example"))
    async with listening(break_tls, tls=tls) as server:
        world = caller(server, tls=client_tls, retries=0)

        with pytest.raises(SourceTimeout, match="broke off before its answer was complete"):
            await world.fetcher.download(TLS_URL, tmp_path / "a", max_bytes=9, field="image_url")


async def _reset(_: StreamReader, writer: StreamWriter) -> None:
    now = struct.pack("ii", 1, 0)  # linger on, for 0 s: the close is a reset
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)


async def _stop_listening(reader: StreamReader, writer: StreamWriter) -> None:
    writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
    await asyncio.Event().wait()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
NOT_HTTP = "reached: its answer is not HTTP"
SLOW = "is too slow: its server takes too long"
BROKEN = "broke off before its answer was complete"
FAULTS: dict[str, tuple[Answer, type[InfiniteTalkError], str]] = {
    "another protocol": (sending(b"220 mail.example ESMTP\r\n\r\n"), SourceUnreachable, NOT_HTTP),
    "no status": (sending(b"HTTP/1.1 fine\r\n\r\n"), SourceUnreachable, NOT_HTTP),
    "two lengths": (sending(HEAD + b"Content-Length: 3\r\n\r\n"), SourceUnreachable, NOT_HTTP),
    "endless header": (sending(b"HTTP/1.1 200 " + b"a" * 200_000), SourceUnreachable, NOT_HTTP),
    "no answer": (sending(), SourceTimeout, BROKEN),
    "half a head": (sending(HEAD), SourceTimeout, BROKEN),
    "reset": (_reset, SourceTimeout, BROKEN),
    "stalled": (stalling(), SourceTimeout, SLOW),
    "stalled in the head": (stalling(HEAD), SourceTimeout, SLOW),
    "half-closed and silent": (_stop_listening, SourceTimeout, SLOW),
    "dripping head": (sending(*[b"a"] * 99, pause_s=0.02), SourceTimeout, SLOW),
    "endless hints": (
        sending(*[b"HTTP/1.1 103 Hint\r\n\r\n"] * 99, pause_s=0.02),
        SourceTimeout,
        SLOW,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_way_not_to_answer_has_its_error(fault: str) -> None:
    answer, kind, message = FAULTS[fault]
    async with listening(answer) as server:
        world = caller(server, grace_s=0.1, connect_s=0.1) if message == SLOW else caller(server)

        with pytest.raises(kind, match=message) as raised:
            await world.fetcher.post(URL, b"", {}, field="callback_url")

    assert raised.value.field == "callback_url"


async def test_a_pause_is_no_longer_because_connecting_may_take_long() -> None:
    async with listening(stalling(HEAD)) as server, asyncio.timeout(5):
        world = caller(server, grace_s=0.1, connect_s=60)

        with pytest.raises(SourceTimeout, match=SLOW):
            await world.fetcher.post(URL, b"", {}, field="callback_url")


async def test_a_connection_that_is_refused_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    world = caller()
    world.dialer.lines = {PUBLIC: port}

    with pytest.raises(SourceUnreachable, match="it takes no connection"):
        await world.fetcher.post(URL, b"", {}, field="callback_url")


async def test_addresses_are_tried_in_turn_within_the_time_for_one() -> None:
    async with listening(replying()) as server:
        dialer = Switchboard({"4.4.4.4": server.port})
        pinned = PinnedDialer(["1.1.1.1", "2.2.2.2", "4.4.4.4"], dialer)

        stream = await pinned.connect_tcp("files.example", 80, timeout=3)
        await stream.aclose()

    assert dialer.dialled == [("1.1.1.1", 80), ("2.2.2.2", 80), ("4.4.4.4", 80)]
    assert dialer.timeouts == [1, 1, 1]


async def test_a_name_with_many_dead_addresses_costs_four_dials() -> None:
    dialer = Switchboard()
    pinned = PinnedDialer([f"1.1.1.{n}" for n in range(100)], dialer)

    with pytest.raises(httpcore.ConnectError):
        await pinned.connect_tcp("files.example", 80)

    assert dialer.dialled == [(f"1.1.1.{n}", 80) for n in range(4)]
