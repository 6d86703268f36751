"""Which URLs are let through: by port and by all the addresses that a name has."""

import asyncio
from collections.abc import Sequence

import pytest

from infinitetalk.errors import SourceTimeout, SourceUnreachable, UrlForbidden, UrlInvalid
from infinitetalk.serving.gate import Gate, resolve_by_system
from infinitetalk.serving.url import parse_url
from tests.serving.fetching import Names

PUBLIC = "93.184.215.14"
PRIVATE = "10.1.2.3"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def admit(
    url: str, *answer: str, ports: Sequence[int] = (80, 443), private: Sequence[str] = ()
) -> Sequence[str]:
    """What a gate says when the URL's name has these addresses."""
    parsed = parse_url(url, field="image_url")
    gate = Gate(ports, private, Names({parsed.host: [answer]}), patience_s=1)
    return await gate.admit(parsed, field="image_url")


@pytest.mark.parametrize(
    "answer", [[PUBLIC], [PUBLIC, "2a00::1"], ["2a00::1", PUBLIC, "8.8.8.8"]], ids=str
)
async def test_a_name_with_public_addresses_only_is_let_through(answer: list[str]) -> None:
    assert list(await admit("http://a.example/", *answer)) == answer


async def test_an_address_that_is_named_twice_is_dialled_once() -> None:
    assert list(await admit("http://a.example/", PUBLIC, PUBLIC)) == [PUBLIC]


@pytest.mark.parametrize(
    "answer",
    [[PRIVATE], [PUBLIC, PRIVATE], [PRIVATE, PUBLIC], [PUBLIC, "::1"], ["fe80::1%2"], ["what?"]],
    ids=str,
)
async def test_one_address_that_is_not_public_is_enough_to_refuse(answer: list[str]) -> None:
    with pytest.raises(UrlForbidden, match="an address that is not public") as raised:
        await admit("http://a.example/", *answer)

    assert raised.value.field == "image_url"
    assert PRIVATE not in raised.value.message


@pytest.mark.parametrize("port", [0, 22, 81, 6379, 8080, 65536, 99999])
async def test_a_port_that_is_not_open_is_refused_before_its_name_is_looked_up(port: int) -> None:
    names = Names({})
    gate = Gate((80, 443), (), names, patience_s=1)

    with pytest.raises(UrlInvalid, match=f"port {port}"):
        await gate.admit(parse_url(f"http://a.example:{port}/", field="image_url"), field="f")

    assert names.asked == []


async def test_ports_are_the_deployments_choice() -> None:
    assert await admit("http://a.example:8080/", PUBLIC, ports=(8080,))


@pytest.mark.parametrize(
    ("url", "private", "is_let_through"),
    [
        ("http://files.corp/", "files.corp", True),
        ("http://FILES.corp./", "Files.Corp", True),
        ("https://files.corp/", "files.corp", True),
        ("http://files.corp:8999/", "files.corp:8999", True),
        ("http://127.0.0.1:8999/", "127.0.0.1:8999", True),
        ("http://[::1]:8999/", "[::1]:8999", True),
        ("http://[0:0::1]/", "::1", True),
        ("http://files.corp:8999/", "files.corp", False),
        ("http://files.corp/", "files.corp:8999", False),
        ("http://files.corp:8999/", "files.corp:8998", False),
        ("http://other.corp/", "files.corp", False),
        ("http://a.files.corp/", "files.corp", False),
        ("http://2130706433/", "127.0.0.1", False),
    ],
)
async def test_a_listed_host_may_be_private_and_one_listed_with_a_port_only_there(
    url: str, private: str, is_let_through: bool
) -> None:
    try:
        await admit(url, PRIVATE, private=[private])
    except (UrlForbidden, UrlInvalid):
        assert not is_let_through
    else:
        assert is_let_through


@pytest.mark.parametrize("text", ["", "http://files.corp", "a b", "files.corp:http", "user@corp"])
async def test_a_listed_host_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(UrlInvalid):
        Gate((80,), [text], Names({}), patience_s=1)


async def test_a_name_without_addresses_is_unreachable() -> None:
    with pytest.raises(SourceUnreachable, match="its name does not resolve"):
        await admit("http://nowhere.example/")


@pytest.mark.parametrize("host", ["nowhere.invalid", "127.0.0.256", "1.2.3.4.5"])
async def test_what_the_system_cannot_resolve_is_unreachable(host: str) -> None:
    gate = Gate((80,), (), resolve_by_system, patience_s=10)

    with pytest.raises(SourceUnreachable, match="its name does not resolve"):
        await gate.admit(parse_url(f"http://{host}/", field="image_url"), field="image_url")


async def test_the_systems_answer_keeps_the_link_of_an_address() -> None:
    assert await resolve_by_system("fe80::1%1", 80) == ["fe80::1%1"]


async def test_a_name_server_that_stalls_is_not_waited_for() -> None:
    async def stall(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    gate = Gate((80,), (), stall, patience_s=0.05)

    with pytest.raises(SourceTimeout, match="resolving its name"):
        await gate.admit(parse_url("http://a.example/", field="image_url"), field="image_url")


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0"])
async def test_the_system_knows_every_spelling_of_loopback_and_so_does_the_gate(host: str) -> None:
    gate = Gate((80,), (), resolve_by_system, patience_s=10)

    with pytest.raises(UrlForbidden):
        await gate.admit(parse_url(f"http://{host}/", field="image_url"), field="image_url")
