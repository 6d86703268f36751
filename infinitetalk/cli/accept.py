"""Prove that this machine renders as it should, and measure it: time, memory and price."""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from infinitetalk.acceptance.report import Check, to_json
from infinitetalk.acceptance.tables import tables
from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import InvalidField, RenderFailed
from infinitetalk.preset_choice import choose_preset
from infinitetalk.spec import PRESETS

console = Console(highlight=False, soft_wrap=True)

MIN_SECONDS, MAX_SECONDS = 1.0, 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk accept`."""
    add = parser.add_argument
    presets = ["auto", *PRESETS]
    add("--preset", choices=presets, help="which model to run (default: what fits this machine)")
    add("--seconds", type=float, default=6.0, help="length of the clip (default: 6)")
    add("--sweep", action="store_true", help="also render a grid of settings as one picture")
    add("--json", type=Path, metavar="FILE", help="write the report there")
    add("--output", type=Path, metavar="DIR", help="keep the clip and the pictures there")


def run(options: argparse.Namespace) -> int:
    """Print the report; 4 when a check failed.

    The cold start is counted from here, the price only where the settings name one.
    """
    started = time.monotonic()
    settings = load_settings()
    _check(options)
    from infinitetalk.acceptance.run import Plan, accept  # loading torch takes a second
    from infinitetalk.runner import why_not_on_gpu

    wished = replace(settings, preset=options.preset or settings.preset)
    choice = choose_preset(wished, why_not_on_gpu)
    if choice.reason is not None:
        console.print(f"[bold yellow]Only the preset demo is tried:[/] {escape(choice.reason)}.")
    plan = Plan(choice.preset, options.seconds, options.sweep)
    with _folder(options.output) as output:
        report = accept(
            plan,
            settings,
            output,
            started=started,
            price_per_second=_price_per_second(settings),
            on_check=_tell,
        )
    for table in tables(report):
        console.print(table)
    if options.json is not None:
        options.json.write_text(to_json(report))
    return RenderFailed.exit_code if report.failed else 0


def _check(options: argparse.Namespace) -> None:
    if not (math.isfinite(options.seconds) and MIN_SECONDS <= options.seconds <= MAX_SECONDS):
        raise InvalidField(
            f"--seconds must be between {MIN_SECONDS:g} and {MAX_SECONDS:g}, "
            f"not {options.seconds:g}.",
            field="seconds",
        )
    if options.sweep and options.output is None:
        raise InvalidField("--sweep makes pictures: name a folder with --output.", field="output")
    if options.json is not None and not options.json.parent.is_dir():
        raise InvalidField(f"There is no folder {options.json.parent}.", field="json")


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """The folder that was named, or one that is gone afterwards."""
    if output is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidField(f"{output} cannot be created.", field="output") from error
    yield output


def _price_per_second(settings: Settings) -> float | None:
    hourly = settings.gpu_price_per_hour
    return None if hourly is None else hourly / 3600


def _tell(check: Check) -> None:
    verdict = "[green]passed[/]" if check.passed else "[red]failed[/]"
    console.print(f"{check.name}: {verdict}, {escape(check.detail)}")
