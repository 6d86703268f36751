"""The reference pages are what the code says, and every error in them can really be met."""

import re
from functools import cache
from pathlib import Path

import pytest

from docs.make_reference import BRANCHES, FOLDER, pages, raised
from infinitetalk.errors import InfiniteTalkError

ROOT = Path(__file__).parents[1]


@cache
def text_of(folder: str) -> str:
    """All code of a folder but this file and the tests of the tree itself."""
    left_out = {Path(__file__).name, "test_errors.py"}
    paths = [path for path in sorted((ROOT / folder).rglob("*.py")) if path.name not in left_out]
    return "\n".join(path.read_text("utf-8") for path in paths)


@pytest.mark.parametrize("name", pages())
def test_the_pages_are_current(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == pages()[name], "run `make docs`"


@pytest.mark.parametrize("kind", raised(), ids=lambda kind: kind.code)
def test_every_error_is_met_by_some_test(kind: type[InfiniteTalkError]) -> None:
    by_code = rf"[\"']{kind.code}[\"'/]"
    by_class = rf"raises\(\s*(\w+\.)?{kind.__name__}\b"
    assert re.search(f"{by_code}|{by_class}", text_of("tests"))


@pytest.mark.parametrize("kind", BRANCHES, ids=lambda kind: kind.code)
def test_a_branch_is_never_raised_itself(kind: type[InfiniteTalkError]) -> None:
    assert not re.search(rf"(?<![\w(]){kind.__name__}\(\s*[f\"']", text_of("infinitetalk"))
