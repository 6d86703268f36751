"""The table of special networks, sent to the routes that take URLs: no packet leaves."""

import ssl
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from infinitetalk.serving.sandbox import Sandbox
from tests.serving.fetching import Switchboard
from tests.serving.playing import Service, serving
from tests.serving.special_networks import Case, cases

TABLE = list(cases())
NETWORKS = list(dict.fromkeys(case.network for case in TABLE))
ROUTES = ("/generate/submit", "/generate")


@pytest.fixture(scope="module")
def dialer() -> Switchboard:
    """Puts nothing through, and remembers every dial."""
    return Switchboard()


@pytest.fixture(scope="module")
def service(
    dialer: Switchboard, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("guard")
    fetcher = Fetcher(
        FetchPolicy(retries=0), dialer=dialer, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    with serving(data, data, data, sandbox=sandbox, fetcher=fetcher) as service:
        yield service


def sent(case: Case, service: Service, dialer: Switchboard, route: str) -> tuple[object, set[str]]:
    """The code that the URL is answered with, and the addresses that were dialled."""
    dialer.dialled.clear()
    answer = service.client.post(route, json={"image_url": case.url, "audio_url": case.url})
    assert answer.json()["field"] in ("image_url", "audio_url"), case
    return answer.json()["code"], {str(ip_address(host)) for host, _ in dialer.dialled}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_address_of_a_special_network_is_dialled_however_it_is_written(
    service: Service, dialer: Switchboard, network: str, route: str
) -> None:
    forbidden = [case for case in TABLE if case.network == network and not case.is_allowed]
    assert forbidden
    for case in forbidden:
        assert sent(case, service, dialer, route) == ("url_forbidden", set()), case


@pytest.mark.parametrize("network", NETWORKS)
def test_their_public_neighbours_are_dialled(
    service: Service, dialer: Switchboard, network: str
) -> None:
    """Without this the guard could refuse everything; one spelling for each address will do."""
    plain = [case for case in reversed(TABLE) if case.network == network]  # the first spelling
    for address, case in {case.address: case for case in plain if case.is_allowed}.items():
        code, dialled = sent(case, service, dialer, ROUTES[0])
        assert (code, dialled) == ("source_unreachable", {str(ip_address(address))}), case


FORBIDDEN = (
    *("localhost", "LOCALHOST.", "127.0.0.1", "127.255.255.254", "[::1]", "0.0.0.0", "0", "[::]"),
    *("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1."),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1", "240.0.0.1"),
    *("169.254.169.254", "[fd00:ec2::254]", "192.0.0.192", "168.63.129.16", "100.100.100.200"),
    *("[::ffff:127.0.0.1]", "[::127.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]"),
    *("[2001:0:1::80ff:fffe]", "[2a00:1450::5efe:7f00:1]"),
)
INVALID = (
    *("file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:image/png;base64,AA"),
    *("/etc/passwd", "face.png", "http://a@b.example/", "http://a:b@c.example/"),
    *("http://8.8.8.8:22/", "http://8.8.8.8:6379/", "http://8.8.8.8/\r\nHost: 127.0.0.1"),
    "http://8.8.8.8/" + "a" * 8192,
)


@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("/generate", "image_url"),
        ("/generate/submit", "audio_url"),
        ("/generate/submit", "output_url"),
    ],
)
@pytest.mark.parametrize(
    ("code", "urls"),
    [
        ("url_forbidden", [f"http://{host}/" for host in FORBIDDEN]),
        ("url_invalid", list(INVALID)),
    ],
)
def test_a_url_that_may_not_be_opened_is_a_422_at_submit(
    service: Service, dialer: Switchboard, code: str, urls: list[str], route: str, field: str
) -> None:
    dialer.dialled.clear()
    good = {"image_url": "http://8.8.8.8/", "audio_url": "http://8.8.8.8/"}
    for url in urls:
        answer = service.client.post(route, json={**good, field: url})
        said = answer.json()
        assert (answer.status_code, said["code"], said["field"]) == (422, code, field), url
    assert dialer.dialled == []


def test_nothing_of_all_this_is_left(service: Service) -> None:
    assert service.host.store.find() == []
    assert not list((service.settings.data_folder / "staging").iterdir())
