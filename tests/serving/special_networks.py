"""The networks no URL may reach, and 7 ways to write each of their border addresses into a URL.

Pure data, written by hand from the registries of IANA and not taken from the code under test: the
fetcher and the HTTP routes are driven through the same table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

NETWORKS = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::1/128",
            "::/96",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "2620:4f:8000::/48",
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # outside of it no IPv6 address is public

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Case:
    """One address in one spelling."""

    url: str
    network: str  # it is in, or next to
    spelling: str
    address: str  # canonical
    is_allowed: bool


def cases() -> Iterator[Case]:
    """The first and last address of every network and the neighbours outside, in every spelling."""
    for network in NETWORKS:
        for address in borders(network):
            for spelling, host in spellings(address).items():
                yield Case(
                    f"http://{host}/a.png", str(network), spelling, str(address), is_public(address)
                )


def borders(network: Network) -> Iterator[Address]:
    """The first and last address, and the neighbours outside where there are any."""
    first, last = int(network.network_address), int(network.broadcast_address)
    for number in (first - 1, first, last, last + 1):
        if 0 <= number < 2**network.max_prefixlen:
            yield type(network.network_address)(number)


def is_public(address: Address) -> bool:
    """What the table says about an address that carries no other."""
    if any(address in network for network in NETWORKS if network.version == address.version):
        return False
    return address.version == 4 or address in GLOBAL_UNICAST


def spellings(address: Address) -> dict[str, str]:
    """The address as the host of a URL, in 7 ways."""
    return _spellings_4(address) if isinstance(address, IPv4Address) else _spellings_6(address)


def _spellings_4(address: IPv4Address) -> dict[str, str]:
    number = int(address)
    octets = address.packed
    return {
        "dotted": str(address),
        "decimal": str(number),
        "hexadecimal": f"0x{number:08x}",
        "octal": ".".join(f"0{octet:o}" for octet in octets),
        "short": f"{octets[0]}.{number & 0xFFFFFF}",
        "mapped": f"[::ffff:{address}]",
        "nat64": f"[{ip_address(int(IPv6Address('64:ff9b::')) + number)}]",
    }


def _spellings_6(address: IPv6Address) -> dict[str, str]:
    groups = address.exploded.split(":")
    tail = IPv4Address(address.packed[12:])
    return {
        "compressed": f"[{address}]",
        "exploded": f"[{address.exploded}]",
        "uppercase": f"[{str(address).upper()}]",
        "exploded uppercase": f"[{address.exploded.upper()}]",
        "no leading zeros": f"[{':'.join(f'{int(group, 16):x}' for group in groups)}]",
        "dotted tail": f"[{':'.join(groups[:6])}:{tail}]",
        "with port": f"[{address}]:80",
    }
