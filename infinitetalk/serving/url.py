"""An http(s) URL, taken apart once and strictly; only the parts go to the wire.

Two parsers that read one text differently are how filters of addresses are passed, so there is one
grammar here, narrower than RFC 3986: what it does not match is refused. It says nothing about where
a host leads; numbers such as `2130706433` are valid names, see `gate`.
"""

import re
import string
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import quote, urljoin

import idna

from infinitetalk.errors import UrlInvalid

MAX_CHARACTERS = 8000  # presigned URLs with a session token take more than 2000
DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_NAME = 253  # characters of a host name, RFC 1035
# ASCII: with Unicode's case folding `ſ` would match `s`.
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@%]+))(?::([0-9]{0,5}))?")
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
_VISIBLE_ASCII = string.ascii_letters + string.digits + string.punctuation


@dataclass(frozen=True, slots=True)
class Url:
    """What of a URL goes to the wire."""

    scheme: str
    host: str  # an ASCII name without a final dot, or an IPv6 address without brackets
    port: int
    target: str = field(repr=False)  # path and query: may hold secrets

    @property
    def authority(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str, *, field: str) -> Url:
    """The parts of an http(s) URL, the name of its host in ASCII.

    Raises:
        UrlInvalid: it is none, or it carries a user name.
    """
    _check_characters(text, field)
    found = _URL.fullmatch(text)
    if found is None:
        raise _invalid(field, "it must start with http:// or https://")
    scheme, authority, path, query, _ = found.groups()
    scheme = scheme.lower()
    host, port = parse_authority(authority, field=field)
    target = (path or "/") + (query or "")
    port = DEFAULT_PORTS[scheme] if port is None else port
    return Url(scheme, host, port, quote(target, safe=_VISIBLE_ASCII))


def parse_redirect(base: Url, location: bytes, *, field: str) -> Url:
    """Where a redirect from `base` leads.

    Raises:
        UrlInvalid: to no http(s) URL.
    """
    text = location.decode(errors="surrogateescape")
    _check_characters(text, field)  # before urljoin, which removes some of them
    try:
        text = urljoin(f"{base.scheme}://{base.authority}{base.target}", text)
    except ValueError as error:
        raise _invalid(field, "it redirects to something that is none") from error
    return parse_url(text, field=field)


def parse_authority(text: str, *, field: str) -> tuple[str, int | None]:
    """Host and port of `host`, `host:port`, `[address]` or `[address]:port`.

    Raises:
        UrlInvalid: it is none of them.
    """
    if "@" in text:
        raise _invalid(field, "it must not carry a user name or a password")
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise _invalid(field, "its host or port is not valid")
    address, name, port = found.groups()
    host = _ipv6(address, field) if address else _name(name, field)
    return host, int(port) if port else None


def _check_characters(text: str, field: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise _invalid(field, f"it is longer than {MAX_CHARACTERS} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise _invalid(field, "it holds blanks, control characters or backslashes")


def _ipv6(text: str, field: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError as error:
        raise _invalid(field, "its host or port is not valid") from error


def _name(text: str, field: str) -> str:
    """The name as DNS knows it: `Bücher.example.` -> `xn--bcher-kva.example`."""
    try:
        # uts46 is what browsers do; Python's own codec is the older IDNA, where ß turns into ss.
        name = text if text.isascii() else idna.encode(text, uts46=True).decode()
    except UnicodeError as error:  # idna.IDNAError is one
        raise _invalid(field, "its host or port is not valid") from error
    name = name.lower().removesuffix(".")
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise _invalid(field, "its host or port is not valid")
    return name


def _invalid(field: str, reason: str) -> UrlInvalid:
    return UrlInvalid(f"{field} is no URL that can be opened: {reason}.", field=field)
