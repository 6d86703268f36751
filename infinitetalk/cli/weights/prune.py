"""Delete what is no longer needed: interrupted preparations, outdated models, original files."""

import argparse

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from infinitetalk.config import load_settings

console = Console(highlight=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights prune`."""
    add = parser.add_argument
    add(
        "name",
        nargs="*",
        help="delete these models, as `weights status` calls them, and nothing else",
    )
    add("--sources", action="store_true", help="the downloaded original files too")
    add("--dry-run", action="store_true", help="only say what would be deleted")


def run(options: argparse.Namespace) -> int:
    """Say what goes, and delete it."""
    from infinitetalk.weights.prune import leftovers, prepared_model, remove

    settings = load_settings()
    if options.name:
        found = [prepared_model(settings.weights_folder, name) for name in options.name]
    else:
        places = dict.fromkeys((settings.weights_folder, settings.bundled_folder))
        found = [one for w in places for one in leftovers(w, with_sources=options.sources)]
    if not found:
        console.print("There is nothing to delete.")
        return 0
    table = Table("folder", "why", "size")
    for leftover in found:
        table.add_row(str(leftover.folder), leftover.why, decimal(leftover.size))
    console.print(table)
    if not options.dry_run:
        remove(found)
        console.print(f"Deleted {decimal(sum(one.size for one in found))}.")
    return 0
