"""Options that Locust does not have, for `python -m loadtest` and for locustfile.py by itself."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    add = parser.add_argument
    add("--max-cost", type=float, metavar="USD", help="needed for a host that is not this machine")
    add("--error-budget", type=float, default=0.0, metavar="X", help="share that may fail, 0 to 1")
    header = "goes with every request; K=@FILE reads the value from a file"
    add("--header", type=_header, action="append", default=[], metavar="K=V", help=header)
    add("--video-seconds", type=float, default=1.5, metavar="S", help="length of every video")
    add("--deadline", type=float, default=600.0, metavar="S", help="a slower video is a failure")


def as_arguments(options: argparse.Namespace) -> list[str]:
    """The same options as a command line."""
    words = ["--error-budget", str(options.error_budget)]
    words += ["--video-seconds", str(options.video_seconds), "--deadline", str(options.deadline)]
    if options.max_cost is not None:
        words += ["--max-cost", str(options.max_cost)]
    return [*words, *(word for header in options.header for word in ("--header", header))]


def headers_of(options: argparse.Namespace) -> dict[str, str]:
    """What goes with every request."""
    pairs = (header.split("=", 1) for header in options.header)
    return {name: _value(text) for name, text in pairs}


def _header(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    return text


def _value(text: str) -> str:
    return Path(text[1:]).read_text("utf-8").strip() if text.startswith("@") else text
