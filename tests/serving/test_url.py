"""One strict reading of a URL: what goes to the wire, and what is no URL at all."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinitetalk.errors import UrlInvalid
from infinitetalk.serving.url import MAX_CHARACTERS, Url, parse_redirect, parse_url

VALID = {
    "http://a.example": Url("http", "a.example", 80, "/"),
    "https://a.example/b/c.png?d=e#f": Url("https", "a.example", 443, "/b/c.png?d=e"),
    "HTTPS://A.Example:8443/B": Url("https", "a.example", 8443, "/B"),
    "http://a.example:/": Url("http", "a.example", 80, "/"),
    "http://a.example?b=c": Url("http", "a.example", 80, "/?b=c"),
    "http://a.example#b": Url("http", "a.example", 80, "/"),
    "http://a.example./": Url("http", "a.example", 80, "/"),
    "http://my_bucket.example/%2e%2F?x=%20+'()*": Url(
        "http", "my_bucket.example", 80, "/%2e%2F?x=%20+'()*"
    ),
    "http://a.example/ä/日.png?ö": Url("http", "a.example", 80, "/%C3%A4/%E6%97%A5.png?%C3%B6"),
    "http://Bücher.example/": Url("http", "xn--bcher-kva.example", 80, "/"),
    "http://faß.example/": Url("http", "xn--fa-hia.example", 80, "/"),
    "http://a。example/": Url("http", "a.example", 80, "/"),
    "http://①②⑦.⓪.⓪.①/": Url("http", "127.0.0.1", 80, "/"),
    "http://127.0.0.1./": Url("http", "127.0.0.1", 80, "/"),
    "http://[2A00:1450:0:0::1]:8080/": Url("http", "2a00:1450::1", 8080, "/"),
    "http://[::ffff:8.8.8.8]/": Url("http", "::ffff:808:808", 80, "/"),
}
SCHEME = "must start with http:// or https://"
USER = "must not carry a user name"
HOST = "host or port is not valid"
CHARACTERS = "blanks, control characters or backslashes"
INVALID = {
    "": SCHEME,
    "/etc/passwd": SCHEME,
    "a.example/b.png": SCHEME,
    "//a.example/b.png": SCHEME,
    "file:///etc/passwd": SCHEME,
    "ftp://a.example/": SCHEME,
    "gopher://a.example/": SCHEME,
    "data:image/png;base64,AAAA": SCHEME,
    "javascript:alert(1)": SCHEME,
    "http:/a.example": SCHEME,
    "http:a.example": SCHEME,
    "httpſ://a.example/": SCHEME,
    "http://": HOST,
    "http:///etc/passwd": HOST,
    "http://?a": HOST,
    "http://user@a.example/": USER,
    "http://user:secret@a.example/": USER,
    "http://a.example:80@127.0.0.1/": USER,
    "http://a.example:http/": HOST,
    "http://a.example:80:80/": HOST,
    "http://a.example:-1/": HOST,
    "http://a.example:８０/": HOST,
    "http://a.example:123456/": HOST,
    "http://a..example/": HOST,
    "http://a.example../": HOST,
    "http://./": HOST,
    "http://a%2eexample/": HOST,
    "http://%31%32%37.0.0.1/": HOST,
    "http://a,b.example/": HOST,
    "http://℀.example/": HOST,
    "http://[::1/": HOST,
    "http://::1/": HOST,
    "http://[fe80::1%eth0]/": HOST,
    "http://[fe80::1%25eth0]/": HOST,
    "http://[1.2.3.4]/": HOST,
    "http://[v1.a]/": HOST,
    f"http://{'a' * 64}.example/": HOST,
    f"http://{'a.' * 127}example/": HOST,
    "http://a.example/\r\nHost: b": CHARACTERS,
    "http://a.example\r\n/": CHARACTERS,
    "http://a.example/b c": CHARACTERS,
    " http://a.example/": CHARACTERS,
    "http://a.example/\n": CHARACTERS,
    "http://a.example/\t": CHARACTERS,
    "http://a.example/\0": CHARACTERS,
    "http://a.example/\x7f": CHARACTERS,
    "http://a.example/\x85": CHARACTERS,
    "http://a.example/\u2028": CHARACTERS,
    "http://a.example/\u00a0": CHARACTERS,
    "http://a.example/\ud800": CHARACTERS,
    "http:\\\\a.example\\b": CHARACTERS,
    "http://a.example\\@b.example/": CHARACTERS,
    "http://a.example/" + "b" * 8192: "longer than 8000 characters",
}
BASE = Url("https", "a.example", 8443, "/b/c?d")
REDIRECTS = {
    b"http://other.example/x": Url("http", "other.example", 80, "/x"),
    b"//other.example/x": Url("https", "other.example", 443, "/x"),
    b"/x?y": Url("https", "a.example", 8443, "/x?y"),
    b"x": Url("https", "a.example", 8443, "/b/x"),
    b"../x": Url("https", "a.example", 8443, "/x"),
    "/ä".encode(): Url("https", "a.example", 8443, "/%C3%A4"),
}
WRONG_REDIRECTS = (
    b"file:///etc/passwd",
    b"http://user@other.example/",
    b"http://other.example/a b",
    b"\thttp://other.example/",
    b"/a\tb",
    b"http://[::1/",
    b"/\xff\xfe",
    b"/" + b"b" * 8192,
)


@pytest.mark.parametrize("text", VALID)
def test_a_url_is_taken_apart(text: str) -> None:
    assert parse_url(text, field="image_url") == VALID[text]


@pytest.mark.parametrize("text", INVALID, ids=lambda text: ascii(text)[:40])
def test_what_is_no_url_of_ours_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UrlInvalid, match=INVALID[text]) as raised:
        parse_url(text, field="image_url")

    assert raised.value.field == "image_url"
    assert raised.value.message.startswith("image_url is no URL that can be opened: ")


def test_the_longest_url_is_taken() -> None:
    start = "http://a.example/"

    url = parse_url(start + "b" * (MAX_CHARACTERS - len(start)), field="image_url")

    assert len(url.target) == MAX_CHARACTERS - len(start) + 1


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://a.example:80/", "a.example"),
        ("https://a.example:443/", "a.example"),
        ("https://a.example:80/", "a.example:80"),
        ("http://[2A00::1]/", "[2a00::1]"),
        ("http://[2a00::1]:8080/", "[2a00::1]:8080"),
    ],
)
def test_the_host_header_names_the_port_unless_it_is_the_usual_one(
    text: str, authority: str
) -> None:
    assert parse_url(text, field="image_url").authority == authority


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_redirect_is_read_from_where_it_was_met(location: bytes) -> None:
    assert parse_redirect(BASE, location, field="image_url") == REDIRECTS[location]


@pytest.mark.parametrize("location", WRONG_REDIRECTS, ids=lambda location: ascii(location)[:40])
def test_a_redirect_to_no_url_of_ours_is_refused(location: bytes) -> None:
    with pytest.raises(UrlInvalid):
        parse_redirect(BASE, location, field="image_url")


def test_the_text_form_of_a_url_hides_path_and_query() -> None:
    assert "sesame" not in repr(parse_url("http://a.example/sesame?key=sesame", field="image_url"))


@given(st.one_of(st.text(), st.text().map("http://".__add__), st.from_regex(r"\Ahttps?://[^/]+")))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = parse_url(text, field="image_url")
    except UrlInvalid:
        return
    assert re.fullmatch(r"[a-z0-9._:-]+", url.host)
    assert re.fullmatch(r"[!-~]+", url.target)


@given(st.binary())
def test_any_redirect_is_followed_or_refused(location: bytes) -> None:
    try:
        url = parse_redirect(BASE, location, field="image_url")
    except UrlInvalid:
        return
    assert re.fullmatch(r"[!-~]+", url.host + url.target)
