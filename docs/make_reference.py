"""Writes docs/reference/: what the code itself knows best. `make docs` runs it; a test compares."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from docs.command_line_page import command_line_page
from docs.http_api_page import http_api_page
from infinitetalk import errors
from infinitetalk.config import Settings, variable_name
from infinitetalk.errors import InfiniteTalkError

FOLDER = Path(__file__).parent / "reference"
BRANCHES = (errors.Refused, errors.TimedOut, errors.RenderFailed)
"""Only their children are ever raised."""


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """File name -> what belongs into it."""
    return {
        "command-line.md": command_line_page(),
        "errors.md": errors_page(),
        "http-api.md": http_api_page(),
        "settings.md": settings_page(),
    }


def errors_page() -> str:
    """Every error code, as the tree in `errors.py` has them."""
    rows = [
        f"| `{kind.code}` | {kind.status} | {'yes' if kind.retryable else 'no'} | "
        f"{kind.exit_code} | {_meaning(kind)} |"
        for kind in raised()
    ]
    head = [
        "# Errors",
        "",
        "Every answer of ours that is no success has this shape; what BentoML answers itself, such "
        "as unknown paths outside /generate, is plain text:",
        "",
        "```json",
        '{"error": "audio is shorter than 0.2 seconds.", "code": "audio_too_short", '
        '"field": "audio", "retryable": false, "request_id": "5f0c..."}',
        "```",
        "",
        "A job that failed answers `/generate/get` with the status and the code of its error. "
        "`not_found` and `method_not_allowed` are said of paths below /generate. "
        "`retryable` says whether the same request may succeed later; a `Retry-After` header says "
        "when, where that is known. The last column but one is the exit code of the command line.",
        "",
        "| code | HTTP | retryable | exit | meaning |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def settings_page() -> str:
    """Every variable, as `config.py` has them."""
    rows = [
        f"| `{variable_name(item)}` | {_default(item.default)} | "
        f"{item.metadata['meaning']}{_choices(item.metadata['choices'])} |"
        for item in fields(Settings)
    ]
    head = [
        "# Settings",
        "",
        "Environment variables. An unknown or unparsable one stops the start. Lists are separated "
        "by commas.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def raised() -> list[type[InfiniteTalkError]]:
    """Every error that a caller can meet, in the order of the tree."""
    return [kind for kind in _tree(InfiniteTalkError) if kind not in BRANCHES]


def _meaning(kind: type[InfiniteTalkError]) -> str:
    if kind is InfiniteTalkError:
        return "A fault of ours; the log has it under the id of the request."
    return (kind.__doc__ or "").strip()


def _tree(kind: type[InfiniteTalkError]) -> Iterator[type[InfiniteTalkError]]:
    yield kind
    ours = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    for sub in ours:
        yield from _tree(sub)


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(str(part) for part in value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _choices(choices: tuple[str, ...]) -> str:
    return f": {', '.join(f'`{choice}`' for choice in choices)}" if choices else ""


if __name__ == "__main__":
    main()
