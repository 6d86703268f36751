"""What a video is to be: the options that `generate` and `submit` have in common."""

import argparse
from dataclasses import astuple
from typing import Any

from infinitetalk.spec import Box, SpeakingOrder

NAMES = (
    "prompt",
    "negative_prompt",
    "seed",
    "resolution",
    "steps",
    "text_guidance",
    "audio_guidance",
    "audio_guidance_interval",
    "step_cache_threshold",
    "max_seconds",
    "preset",
    "order",
    "consent",
)
"""Options that are called over HTTP as they are here."""


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Every option that says what the video shows and how it is made, but for the preset."""
    add = parser.add_argument
    orders = [order.value for order in SpeakingOrder]
    add("--order", choices=orders, help="how two voices follow each other (default: together)")
    add(
        "--box",
        type=box,
        action="append",
        default=[],
        metavar="T,L,B,R",
        help="where a speaker is, in pixels of the picture; once for each of two speakers",
    )
    add("--prompt", help="what the video shows")
    add("--negative-prompt", help="what it must not show (used with text guidance above 1)")
    sizes = "480p or 720p; demo has 128p only, tiny 48p"
    add("--resolution", help=f"{sizes} (default: the preset's first)")
    add("--seed", type=int, metavar="N", help="same seed, same video")
    add("--steps", type=int, metavar="N", help="denoising steps (default: the preset's)")
    add("--audio-guidance", type=float, metavar="X", help="above 1, lips follow the voice closer")
    add("--text-guidance", type=float, metavar="X", help="above 1, the prompt weighs more")
    add(
        "--audio-guidance-interval",
        type=_interval,
        metavar="FIRST,LAST",
        help="steps with audio guidance, counted from 1; the others are faster (default: all)",
    )
    add(
        "--step-cache-threshold",
        type=float,
        metavar="X",
        help="above 0, leave out steps that would change little (default: 0)",
    )
    add("--consent", metavar="TEXT", help="whose consent covers the face and the voice")
    add("--max-seconds", type=float, metavar="S", help="render the first S seconds only")


def fields_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as fields of the HTTP API."""
    given = {name: getattr(options, name) for name in NAMES}
    boxes = [list(astuple(box)) for box in options.box] or None
    fields = {**given, "boxes": boxes}
    return {name: value for name, value in fields.items() if value is not None}


def _interval(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST,LAST in whole numbers") from None
    return first, last


def box(text: str) -> Box:
    """T,L,B,R as a box."""
    try:
        top, left, bottom, right = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not T,L,B,R in whole pixels") from None
    return Box(top, left, bottom, right)
