"""Which addresses are public: the table's borders, and IPv4 inside IPv6."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinitetalk.serving.addresses import forbidden_reason
from tests.serving.special_networks import GLOBAL_UNICAST, NETWORKS, Network, borders, is_public

PUBLIC_IPV4 = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "168.63.129.17")
PUBLIC_IPV6 = ("2606:4700:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888")
METADATA = ("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254")
REASONS = {
    "127.0.0.1": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::": "IPv4-compatible",
    "10.0.0.1": "private network",
    "fd00::1": "private network",
    "169.254.169.254": "link-local",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "64:ff9b:1::1": "local translation",
    "100::1": "discard",
    "100:0:0:1::1": "dummy prefix",
    "5f00::1": "segment routing",
    "4000::1": "not global unicast",
}

# Where the 32 bits of IPv4 stand in forms that someone forwards, and in forms that no one should.
CARRIERS = {
    "mapped": lambda v4: int(IPv6Address("::ffff:0:0")) | v4,
    "nat64": lambda v4: int(IPv6Address("64:ff9b::")) | v4,
    "6to4": lambda v4: int(IPv6Address("2002::")) | v4 << 80,
    "6to4 of a host": lambda v4: int(IPv6Address("2002::1:2:3:4:5")) | v4 << 80,
    "isatap": lambda v4: int(IPv6Address("2a00:1450::5efe:0:0")) | v4,
    "isatap, unique": lambda v4: int(IPv6Address("2a00:1450::200:5efe:0:0")) | v4,
}
DEAD_ENDS = {
    "compatible": lambda v4: v4,
    "translated": lambda v4: int(IPv6Address("::ffff:0:0:0")) | v4,
    "teredo server": lambda v4: int(IPv6Address("2001::")) | v4 << 64,
    "teredo client": lambda v4: int(IPv6Address("2001::")) | v4 ^ 0xFFFF_FFFF,
    "local nat64": lambda v4: int(IPv6Address("64:ff9b:1::")) | v4,
}
ipv4_numbers = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([int(a) for n in NETWORKS if n.version == 4 for a in borders(n)]),
)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_every_special_network_is_refused_to_its_last_address_and_no_further(
    network: Network,
) -> None:
    for address in borders(network):
        assert (forbidden_reason(address) is None) == is_public(address), address
        assert forbidden_reason(str(address)) == forbidden_reason(address)


@pytest.mark.parametrize("address", REASONS)
def test_the_reason_says_what_kind_of_address_it_is(address: str) -> None:
    assert forbidden_reason(address) == REASONS[address]


@pytest.mark.parametrize("address", METADATA)
def test_no_cloud_gives_its_credentials_away(address: str) -> None:
    assert forbidden_reason(address)


@pytest.mark.parametrize("address", PUBLIC_IPV4 + PUBLIC_IPV6)
def test_public_addresses_pass(address: str) -> None:
    assert forbidden_reason(address) is None


@pytest.mark.parametrize("text", ["", "127.1", "2130706433", "fe80::1%", "localhost", "[::1]"])
def test_what_is_no_canonical_address_is_refused(text: str) -> None:
    assert forbidden_reason(text) == "not an address"


@pytest.mark.parametrize("text", ["2a00:1450::1%eth0", "fe80::1%2", "::1%lo", "2606::1%1"])
def test_an_address_of_one_link_is_refused_whatever_it_is(text: str) -> None:
    assert forbidden_reason(text) == "link-local"


@pytest.mark.parametrize("form", CARRIERS)
@given(number=ipv4_numbers)
def test_ipv6_that_carries_ipv4_is_as_public_as_what_it_carries(form: str, number: int) -> None:
    carried = forbidden_reason(IPv4Address(number))

    assert forbidden_reason(IPv6Address(CARRIERS[form](number))) == carried


@given(first=ipv4_numbers, second=ipv4_numbers)
def test_ipv6_that_carries_two_ipv4_addresses_needs_both_to_be_public(
    first: int, second: int
) -> None:
    both = IPv6Address(int(IPv6Address("2002::5efe:0:0")) | first << 80 | second)

    expected = is_public(IPv4Address(first)) and is_public(IPv4Address(second))

    assert (forbidden_reason(both) is None) == expected


@pytest.mark.parametrize("form", DEAD_ENDS)
@given(number=ipv4_numbers)
def test_forms_of_ipv4_in_ipv6_that_nothing_public_uses_are_refused(form: str, number: int) -> None:
    assert forbidden_reason(IPv6Address(DEAD_ENDS[form](number)))


@given(st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda ip: ip not in GLOBAL_UNICAST))
def test_nothing_outside_of_global_unicast_is_public_but_carried_ipv4(address: IPv6Address) -> None:
    carries = address.ipv4_mapped or str(address).startswith("64:ff9b::")

    assert forbidden_reason(address) or carries
