"""Which service a command talks to, and what it has to be told with every request."""

import argparse
from pathlib import Path

from infinitetalk.errors import FileMissing


def add_server(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--url, --header and --api-key."""
    add = parser.add_argument
    add("--url", required=required, metavar="URL", help="where the service is: http://host:3000")
    add(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="K=V",
        help="goes with every request; K=@FILE reads the value from a file",
    )
    add("--api-key", metavar="KEY", help="a key of the service; @FILE reads it from a file")


def headers_of(options: argparse.Namespace) -> dict[str, str]:
    """The named headers.

    Raises:
        FileMissing: a value is in a file that cannot be read.
    """
    return {name: _value(text) for name, text in options.header}


def api_key_of(options: argparse.Namespace) -> str | None:
    """The key, if there is one.

    Raises:
        FileMissing: it is in a file that cannot be read.
    """
    return None if options.api_key is None else _value(options.api_key)


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    return name, value


def _value(text: str) -> str:
    """What was given, or what is in the file that was named."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileMissing(f"{text[1:]} cannot be read.") from error
