"""See whether the original files are there and fit the model, from their headers alone.

With --remote the hub is asked: a minute and a few megabytes, before gigabytes are fetched. Without,
the files fetched so far (or those in --from) are looked at.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from infinitetalk.cli.weights.choice import Choice, add_choice
from infinitetalk.config import load_settings
from infinitetalk.errors import InvalidField, SourceFileMissing
from infinitetalk.weights.catalog_file import write_catalog
from infinitetalk.weights.origin import LocalFolder

if TYPE_CHECKING:  # loading torch takes a second; wrong options are refused before that
    from infinitetalk.weights.remote_check import Report

console = Console(highlight=False, soft_wrap=True)

COLOURS = {"fits": "green", "unchecked": "yellow"}  # the others are red


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights check`."""
    add_choice(parser)
    add = parser.add_argument
    add("--remote", action="store_true", help="look at the files on the hub")
    add(
        "--resolve",
        type=Path,
        metavar="FILE",
        help="with --remote: write the whole catalog with every revision, size and hash pinned; "
        "`--catalog FILE` then takes exactly those files",
    )


def run(options: argparse.Namespace) -> int:
    """Print what was found of every file; 3 when a part cannot be had."""
    from infinitetalk.weights.remote_check import check, resolve

    if options.resolve and not options.remote:
        raise InvalidField("--resolve asks the hub; add --remote.", field="resolve")
    choice = _choice(options)
    if options.resolve:
        write_catalog(options.resolve, resolve(choice.catalog, choice.origin))
        console.print(f"{options.resolve} has the pinned catalog.")
    report = check(choice.parts, choice.origin, choice.sizes)
    console.print(_table(report))
    for row in report.rows:
        for warning in row.warnings:
            console.print(f"{row.path}: {warning}")
    return _verdict(report, choice)


def _choice(options: argparse.Namespace) -> Choice:
    if options.remote and options.from_folder:
        raise InvalidField("--remote looks at the hub, not at a folder.", field="from")
    choice = Choice.of(options, load_settings())
    if options.remote or options.from_folder:
        return choice
    if not choice.downloads.is_dir():
        raise SourceFileMissing("Nothing was fetched yet; --remote looks at the files on the hub.")
    return replace(choice, origin=LocalFolder(choice.downloads))


def _table(report: "Report") -> Table:
    table = Table()
    for name in ("part", "source", "size", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("file", "detail"):
        table.add_column(name, overflow="fold")
    for row in report.rows:
        size = "" if row.size is None else decimal(row.size)
        verdict = f"[{COLOURS.get(row.verdict, 'red')}]{row.verdict}[/]"
        table.add_row(row.part.name, row.source.name, size, verdict, Path(row.path).name, row.note)
    return table


def _verdict(report: "Report", choice: Choice) -> int:
    if not report.unusable:
        model = f"{choice.preset} for {choice.speakers} speaker{'s' * (choice.speakers > 1)}"
        console.print(f"Everything for {model} is there and fits.")
        return 0
    names = ", ".join(part.name for part in report.unusable)
    console.print(f"[red]No source that fits for: {names}.[/]")
    return SourceFileMissing.exit_code
