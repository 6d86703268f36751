"""The fenced blocks of README.md and docs/, and what each of them needs beyond this machine.

`<!-- needs: a GPU -->` in the line before a block, or `<!-- every snippet needs: ... -->` anywhere
on its page, says that the block cannot be run here.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^\n]+) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_WHOLE_PAGE = re.compile(r"<!-- every snippet needs: (.+) -->")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block."""

    page: Path
    line: int
    language: str
    text: str
    needs: str | None  # what this machine does not have

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def all_snippets() -> list[Snippet]:
    """Those of every page, in order."""
    return [snippet for page in PAGES for snippet in _snippets(page)]


def commands(text: str) -> list[list[str]]:
    """The words of every command of a shell snippet, without assignments before it."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in map(_without_assignments, parts) if words]


def _snippets(page: Path) -> Iterator[Snippet]:
    text = page.read_text("utf-8")
    whole = _WHOLE_PAGE.search(text)
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        needs = found["needs"] or (whole[1] if whole else None)
        yield Snippet(page, line, found["language"], found["text"], needs)


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Za-z_]+=", words[0]):
        words = words[1:]
    return words
