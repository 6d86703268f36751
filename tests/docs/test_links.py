"""Every link of README.md and docs/ leads somewhere: to a file, and to a heading in it.

Addresses elsewhere are looked at, not asked.
"""

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.snippets import PAGES, ROOT

_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|<(https?://[^>\s]+)>")
OTHERS = tuple(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "NOTICE"))
CHECKED = [*PAGES, *(page for page in OTHERS if page.exists())]
NEEDED = {"quickstart.md", "architecture.md", "limits.md", "responsible-use.md"}


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    text = _CODE.sub("", page.read_text("utf-8"))
    return [inline or bare for inline, bare in _LINK.findall(text)]


@cache
def anchors(page: Path) -> set[str]:
    """The names that a page's headings get."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for title in re.findall(r"^#+ (.*)", text, re.MULTILINE):
        plain = re.sub(r"\]\([^)]*\)", "]", title).lower()
        slug = re.sub(r"[^\w -]", "", plain).replace(" ", "-")
        found.append(f"{slug}-{n}" if (n := sum(one == slug for one in found)) else slug)
    return set(found)


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = [link for link in links(page) if not leads_somewhere(link, page)]
    assert wrong == []


def leads_somewhere(link: str, page: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme:
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and ("." in host or host == "localhost")
    target = (page.parent / parts.path).resolve() if parts.path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not parts.fragment or parts.fragment in anchors(target)


def test_every_page_can_be_found_from_the_first_one() -> None:
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / urlsplit(link).path).resolve() for link in links(index)}
    pages = {page for page in PAGES if page not in (index, ROOT / "README.md")}
    assert pages <= reached
    assert {page.name for page in pages} >= NEEDED
