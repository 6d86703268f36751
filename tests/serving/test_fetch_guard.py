"""What no URL may reach: special addresses in every spelling, by every way out, at every hop."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinitetalk.errors import InfiniteTalkError, SourceUnreachable, UrlForbidden, UrlInvalid
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from infinitetalk.serving.gate import resolve_by_system
from tests.serving import special_networks
from tests.serving.fetching import (
    PUBLIC,
    URL,
    Switchboard,
    caller,
    listening,
    redirecting,
    replying,
)

CASES = list(special_networks.cases())

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_table_has_32_networks_in_7_spellings() -> None:
    assert len({case.network for case in CASES}) == 32
    for network in special_networks.NETWORKS:
        assert len({case.spelling for case in CASES if case.network == str(network)}) == 7
    assert {case.is_allowed for case in CASES} == {True, False}


@pytest.mark.parametrize("network", special_networks.NETWORKS, ids=str)
async def test_no_spelling_of_a_special_address_is_ever_dialled(
    tmp_path: Path, network: special_networks.Network
) -> None:
    dialer = Switchboard()
    fetcher = Fetcher(FetchPolicy(), resolve=resolve_by_system, dialer=dialer)
    for case in (case for case in CASES if case.network == str(network)):
        dialer.dialled.clear()
        kind = SourceUnreachable if case.is_allowed else UrlForbidden

        with pytest.raises(kind):
            await fetcher.download(case.url, tmp_path / "a", max_bytes=9, field="image_url")

        assert len(dialer.dialled) == case.is_allowed, case


@pytest.mark.parametrize("call", ["download", "post", "put", "check"])
@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://private.example/", UrlForbidden),
        ("http://mixed.example/", UrlForbidden),
        ("http://127.0.0.1/", UrlForbidden),
        ("http://files.example:22/", UrlInvalid),
        ("file:///etc/passwd", UrlInvalid),
        ("http://nowhere.example/", SourceUnreachable),
    ],
)
async def test_every_way_out_has_the_same_guard(
    tmp_path: Path, call: str, url: str, kind: type[InfiniteTalkError]
) -> None:
    names = {"private.example": [["10.0.0.1"]], "mixed.example": [[PUBLIC, "10.0.0.1"]]}
    world = caller(names={**names, "127.0.0.1": [["127.0.0.1"]], "files.example": [[PUBLIC]]})
    (tmp_path / "result.mp4").write_bytes(b"x")
    fetcher = world.fetcher
    attempt = {
        "download": lambda: fetcher.download(url, tmp_path / "a", max_bytes=9, field="f"),
        "post": lambda: fetcher.post(url, b"", {}, field="f"),
        "put": lambda: fetcher.put(url, tmp_path / "result.mp4", "video/mp4", field="f"),
        "check": lambda: fetcher.check(url, field="f"),
    }[call]

    with pytest.raises(kind) as raised:
        await attempt()

    assert raised.value.field == "f"
    assert world.dialer.dialled == []


async def test_a_check_connects_nowhere() -> None:
    world = caller()

    await world.fetcher.check(URL, field="callback_url")

    assert world.names.asked == ["files.example"]
    assert world.dialer.dialled == []


@settings(deadline=None)
@given(st.one_of(st.text(), st.text().map("http://".__add__), st.text().map(f"{URL}/".__add__)))
async def test_no_text_is_worse_than_a_refusal(text: str) -> None:
    world = caller()

    try:
        await world.fetcher.check(text, field="image_url")
    except (UrlInvalid, UrlForbidden, SourceUnreachable) as error:
        assert error.field == "image_url"

    assert world.dialer.dialled == []


async def test_a_name_that_changes_its_address_is_dialled_where_it_was_checked(
    tmp_path: Path,
) -> None:
    async with listening(replying(b"body")) as server:
        world = caller(server, names={"files.example": [[PUBLIC], ["127.0.0.1"]]})

        assert await world.download(tmp_path) == b"body"

    assert world.names.asked == ["files.example"]
    assert world.dialer.dialled == [(PUBLIC, 80)]


async def test_a_name_that_turns_private_between_retries_is_refused(tmp_path: Path) -> None:
    async with listening(replying(status="503 Busy")) as server:
        world = caller(server, names={"files.example": [[PUBLIC], ["127.0.0.1"]]})

        with pytest.raises(UrlForbidden):
            await world.download(tmp_path)

    assert world.dialer.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_in_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with listening(replying(b"body")) as server:
        world = caller(server)

        assert await world.download(tmp_path) == b"body"

    assert world.dialer.dialled == [(PUBLIC, 80)]
    assert server.heads[0].startswith("GET /a HTTP/1.1\r\n")


async def test_a_host_on_the_list_may_be_on_loopback(tmp_path: Path) -> None:
    async with listening(replying(b"body")) as server:
        policy = FetchPolicy(allowed_hosts=frozenset({f"localhost:{server.port}"}))
        url = f"http://localhost:{server.port}/a"

        await Fetcher(policy).download(url, tmp_path / "a", max_bytes=9, field="image_url")

    assert (tmp_path / "a").read_bytes() == b"body"
    assert f"\r\nHost: localhost:{server.port}\r\n" in server.heads[0]


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("http://127.0.0.1/", UrlForbidden),
        ("http://169.254.169.254/latest/meta-data/", UrlForbidden),
        ("http://[::1]/", UrlForbidden),
        ("http://[::ffff:10.0.0.1]/", UrlForbidden),
        ("//2130706433/", UrlForbidden),
        ("http://files.example:6379/", UrlInvalid),
        ("http://user:secret@files.example/", UrlInvalid),
        ("file:///etc/passwd", UrlInvalid),
        ("gopher://files.example/", UrlInvalid),
    ],
)
async def test_a_redirect_is_held_to_the_same_rules(
    tmp_path: Path, to: str, kind: type[InfiniteTalkError]
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [PUBLIC] if host == "files.example" else list(await resolve_by_system(host, port))

    async with listening(redirecting(to)) as server:
        dialer = Switchboard({PUBLIC: server.port})
        fetcher = Fetcher(FetchPolicy(), resolve=resolve, dialer=dialer)

        with pytest.raises(kind):
            await fetcher.download(URL, tmp_path / "a", max_bytes=9, field="image_url")

    assert dialer.dialled == [(PUBLIC, 80)]
