"""Whole fetches: redirects, retries, the deadline, what is sent, and what is never told."""

import asyncio
import logging
import traceback
from pathlib import Path

import pytest

from infinitetalk import __version__
from infinitetalk.config import Settings
from infinitetalk.errors import (
    InfiniteTalkError,
    InvalidSetting,
    SourceTimeout,
    SourceUnreachable,
    UrlForbidden,
    UrlInvalid,
)
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from tests.serving.fetching import (
    OTHER,
    PUBLIC,
    URL,
    Answer,
    caller,
    listening,
    redirecting,
    replying,
    sending,
    stalling,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_server_is_told_no_more_than_it_needs(tmp_path: Path) -> None:
    async with listening(replying(b"body")) as server:
        assert await caller(server).download(tmp_path) == b"body"

    assert server.heads == [
        "GET /a HTTP/1.1\r\n"
        "Host: files.example\r\n"
        f"User-Agent: infinitetalk/{__version__}\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
    ]


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
async def test_redirects_are_followed_without_cookies_and_with_the_new_host(
    tmp_path: Path, status: str
) -> None:
    there = redirecting("http://other.example/b?c", status)
    async with listening(there) as first, listening(replying(b"body")) as second:
        world = caller(first, second)

        assert await world.download(tmp_path) == b"body"

    assert world.dialer.dialled == [(PUBLIC, 80), (OTHER, 80)]
    assert second.heads[0].startswith("GET /b?c HTTP/1.1\r\nHost: other.example\r\n")
    for header in ("cookie", "authorization", "referer"):
        assert f"\r\n{header}:" not in second.heads[0].lower()


async def test_three_redirects_are_followed(tmp_path: Path) -> None:
    async with listening(*[redirecting("/next")] * 3, replying(b"body")) as server:
        assert await caller(server).download(tmp_path) == b"body"


async def test_the_fourth_redirect_is_not_followed(tmp_path: Path) -> None:
    async with listening(redirecting(URL)) as server:
        with pytest.raises(SourceUnreachable, match="it redirects too often"):
            await caller(server).download(tmp_path)

    assert len(server.heads) == 4


async def test_a_chain_of_eleven_redirects_ends_at_the_fourth(tmp_path: Path) -> None:
    chain = [redirecting(f"http://files.example/{hop}") for hop in range(1, 12)]
    async with listening(*chain, replying(b"body")) as server:
        with pytest.raises(SourceUnreachable, match="it redirects too often"):
            await caller(server).download(tmp_path)

    assert [head.split()[1] for head in server.heads] == ["/a", "/1", "/2", "/3"]


@pytest.mark.parametrize(("jitter", "pauses"), [(0.0, [0.25, 0.5]), (0.75, [0.625, 1.25])])
async def test_retries_of_many_callers_are_spread(
    tmp_path: Path, jitter: float, pauses: list[float]
) -> None:
    async with listening(replying(status="503 Busy")) as server:
        world = caller(server, jitter=jitter)

        with pytest.raises(SourceUnreachable):
            await world.download(tmp_path)

    assert world.pauses.seconds == pauses


@pytest.mark.parametrize(
    ("status", "attempts"),
    [
        ("300 Many", 1),
        ("302 Nowhere", 1),
        ("304 Same", 1),
        ("401 Who", 1),
        ("403 No", 1),
        ("404 Gone", 1),
        ("500 Oh", 3),
        ("503 Busy", 3),
    ],
)
async def test_a_refusal_tells_its_class_only_and_500_and_above_is_tried_again(
    tmp_path: Path, status: str, attempts: int
) -> None:
    async with listening(replying(b"<h1>internal</h1>", status)) as server:
        world = caller(server)

        with pytest.raises(SourceUnreachable) as raised:
            await world.download(tmp_path)

    public = f"image_url cannot be reached: its server answered with {status[0]}xx."
    assert raised.value.message == public
    assert len(server.heads) == attempts
    assert world.pauses.seconds == [0.5, 1.0][: attempts - 1]


async def test_a_choice_is_no_redirect(tmp_path: Path) -> None:
    async with listening(redirecting("/b", "300 Many"), replying(b"body")) as server:
        with pytest.raises(SourceUnreachable, match="answered with 3xx"):
            await caller(server).download(tmp_path)


async def test_what_works_the_second_time_is_a_success(tmp_path: Path) -> None:
    broken = sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    async with listening(replying(status="500 Oh"), broken, replying(b"body")) as server:
        assert await caller(server).download(tmp_path) == b"body"


async def test_a_server_that_stalls_is_tried_three_times(tmp_path: Path) -> None:
    async with listening(stalling()) as server:
        world = caller(server, grace_s=0.05)

        with pytest.raises(SourceTimeout) as raised:
            await world.download(tmp_path)

    assert len(server.heads) == 3
    assert raised.value.retryable


@pytest.mark.parametrize("answer", [stalling(), replying(status="500 Oh"), redirecting("/a")])
async def test_the_deadline_holds_for_retries_and_redirects_together(
    tmp_path: Path, answer: Answer
) -> None:
    async with listening(answer) as server:
        world = caller(server)
        policy = FetchPolicy(deadline_s=0.15, max_redirects=10**6)
        fetcher = Fetcher(policy, resolve=world.names, dialer=world.dialer)  # with a true sleep

        with pytest.raises(SourceTimeout, match=r"it took more than 0\.15 seconds"):
            await fetcher.download(URL, tmp_path / "a", max_bytes=9, field="image_url")

    assert list(tmp_path.iterdir()) == []


async def test_a_post_is_sent_once_and_its_status_is_the_callers_to_judge() -> None:
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await reader.readexactly(2))
        await redirecting("http://127.0.0.1/")(reader, writer)

    async with listening(take) as server:
        world = caller(server)
        headers = {"Content-Type": "application/json", "X-Signature": "abc"}

        status = await world.fetcher.post(URL, b"{}", headers, field="callback_url")

    assert (status, bodies) == (302, [b"{}"])
    assert server.heads[0].startswith("POST /a HTTP/1.1\r\nHost: files.example\r\n")
    assert "\r\nX-Signature: abc\r\n" in server.heads[0]
    assert "\r\nContent-Length: 2\r\n" in server.heads[0]


@pytest.mark.parametrize("status", [200, 204, 302, 403, 503])
async def test_a_put_is_sent_once_and_its_status_is_the_callers_to_judge(
    tmp_path: Path, status: int
) -> None:
    (tmp_path / "result.mp4").write_bytes(b"video")
    async with listening(replying(status=f"{status} Some")) as server:
        given_back = await caller(server).fetcher.put(
            URL, tmp_path / "result.mp4", "video/mp4", field="output_url"
        )

    assert given_back == status
    assert len(server.heads) == 1
    assert "\r\nContent-Type: video/mp4\r\n" in server.heads[0]


SECRET = "sesame"
SECRET_URL = f"http://files.example/{SECRET}?key={SECRET}#{SECRET}"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_what_a_url_hides_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    caplog.set_level(level)
    away = redirecting(SECRET_URL) if level == logging.INFO else replying(b"body")
    async with listening(away, replying(b"body")) as server:
        assert await caller(server).download(tmp_path, SECRET_URL) == b"body"

    assert SECRET in server.heads[0]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (SECRET_URL, replying(status="404 Gone")),
        (SECRET_URL, stalling()),
        (SECRET_URL, sending(b"nonsense\r\n\r\n")),
        (SECRET_URL, replying(b"x" * 200_000)),
        (SECRET_URL, redirecting(f"http://{SECRET}:{SECRET}@files.example/")),
        (SECRET_URL, redirecting(f"file:///{SECRET}")),
        (SECRET_URL.replace("files", "private"), replying()),
        (SECRET_URL.replace("files", "nowhere"), replying()),
        (SECRET_URL.replace("files.example", "files.example:22"), replying()),
        (f"http://{SECRET}:{SECRET}@files.example/", replying()),
        (f"{URL} {SECRET}", replying()),
        (f"http://files.example:{SECRET}/", replying()),
    ],
)
async def test_what_a_url_hides_is_in_no_error(tmp_path: Path, url: str, answer: Answer) -> None:
    names = {"files.example": [[PUBLIC]], "private.example": [["10.0.0.1"]]}
    async with listening(answer) as server:
        world = caller(server, names=names, grace_s=0.05, retries=0)

        with pytest.raises(InfiniteTalkError) as raised:
            await world.download(tmp_path, url)

    assert SECRET not in "".join(traceback.format_exception(raised.value))


async def test_a_deployment_chooses_ports_hosts_and_seconds(tmp_path: Path) -> None:
    async with listening(stalling()) as server:
        host = f"localhost:{server.port}"
        settings = Settings(fetch_ports=(8080,), fetch_allowed_hosts=(host,), fetch_seconds=0.05)
        fetcher = Fetcher.from_settings(settings)

        with pytest.raises(UrlInvalid):
            await fetcher.check("http://127.0.0.1:80/", field="image_url")
        with pytest.raises(UrlForbidden):
            await fetcher.check("http://127.0.0.1:8080/", field="image_url")
        with pytest.raises(SourceTimeout, match=r"more than 0\.05 seconds"):
            await fetcher.download(
                f"http://{host}/", tmp_path / "a", max_bytes=9, field="image_url"
            )


def test_an_allowed_host_that_is_none_stops_the_start() -> None:
    with pytest.raises(InvalidSetting, match="INFINITETALK_FETCH_ALLOWED_HOSTS"):
        Fetcher.from_settings(Settings(fetch_allowed_hosts=("http://a.corp/",)))
