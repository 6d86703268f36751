"""Which IP addresses are on the public internet: one table, read from the top.

The special-purpose registries of IANA for IPv4 and IPv6, and what they leave out: the multicast
blocks, the retired forms of IPv6, and the addresses where clouds hand out credentials. An IPv6
address that carries an IPv4 address is as public as what it carries. The entries that IANA calls
globally reachable (AS112 and multicast relays) are refused too, because nothing to fetch is there.

It is not a resolver and knows no names; `gate` asks it about every address that a name has.
`ipaddress.is_private` and `is_global` are not used: they differ between versions of Python and let
several of these through.
"""

from collections.abc import Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

_SPECIAL_IPV4 = tuple(
    (IPv4Network(network), meaning)
    for network, meaning in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private network"),
        ("100.64.0.0/10", "carrier network"),  # 100.100.100.200: metadata of Alibaba Cloud
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud platform"),  # of Azure, and reachable from its machines only
        ("169.254.0.0/16", "link-local"),  # 169.254.169.254: metadata of most clouds
        ("172.16.0.0/12", "private network"),
        ("192.0.0.0/24", "protocol assignments"),  # 192.0.0.192: metadata of Oracle Cloud
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "name server sink"),
        ("192.52.193.0/24", "multicast relay"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private network"),
        ("192.175.48.0/24", "name server sink"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),  # with 255.255.255.255, broadcast
    )
)

_SPECIAL_IPV6 = tuple(
    (IPv6Network(network), meaning)
    for network, meaning in (
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),  # with ::, the unspecified address
        ("64:ff9b:1::/48", "local translation"),
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "dummy prefix"),
        ("2001::/23", "protocol assignments"),  # Teredo, benchmarks, ORCHID and others
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "name server sink"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private network"),  # fd00:ec2::254: metadata of AWS
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2: the system connects by IPv4
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: a gateway connects by IPv4
_6TO4 = IPv6Network("2002::/16")  # RFC 3056: a relay connects by IPv4
_ROUTABLE_IPV6 = (IPv6Network("2000::/3"), _MAPPED, _NAT64)


def forbidden_reason(address: str | IPv4Address | IPv6Address) -> str | None:
    """Why an address is not on the public internet, in a few words; None if it is.

    Args:
        address: a text must be in the canonical form that resolvers return: `127.1` is no address.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return "not an address"
    if isinstance(address, IPv4Address):
        return _special_ipv4(address)
    return _special_ipv6(address) or _forbidden_cargo(address)


def _special_ipv4(address: IPv4Address) -> str | None:
    return next((meaning for network, meaning in _SPECIAL_IPV4 if address in network), None)


def _special_ipv6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "link-local"
    for network, meaning in _SPECIAL_IPV6:
        if address in network:
            return meaning
    if not any(address in network for network in _ROUTABLE_IPV6):
        return "not global unicast"
    return None


def _forbidden_cargo(address: IPv6Address) -> str | None:
    return next(filter(None, map(_special_ipv4, _carried_ipv4(address))), None)


def _carried_ipv4(address: IPv6Address) -> Iterator[IPv4Address]:
    number = int(address)
    last = IPv4Address(number & 0xFFFF_FFFF)
    if address in _MAPPED or address in _NAT64:
        yield last
    if address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFF_FFFF)
    # ISATAP (RFC 5214, 6.1): 00-00-5E-FE before the IPv4 address; two bits of it are flags.
    if number >> 32 & 0xFCFF_FFFF == 0x0000_5EFE:
        yield last
