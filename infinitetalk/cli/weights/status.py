"""List prepared models, where their weights are from, and what else takes room."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import WeightsCorrupt
from infinitetalk.spec import PRESETS
from infinitetalk.weights.prepared import damaged_folders, prepared_folders
from infinitetalk.weights.selection import Wish
from infinitetalk.weights.storage import size_on_disk

console = Console(highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`infinitetalk weights status` has no options."""


def run(_: argparse.Namespace) -> int:
    """Print the tables; 0 whether or not anything is prepared."""
    from infinitetalk.weights.prune import leftovers

    settings = load_settings()
    for table in _prepared(settings):
        console.print(table)
    for folder, error in _damaged(settings).items():
        console.print(f"{folder.name} is damaged: {error.message}", markup=False)
    for preset in _unprepared(settings):
        console.print(f"{preset} is not prepared: `{Wish.of(settings).command(preset)}`")
    others = leftovers(settings.weights_folder, with_sources=True)
    if others:
        console.print(f"{decimal(sum(one.size for one in others))} more can go:")
        for one in others:
            console.print(f"  {one.folder}: {one.why}")
        console.print("  `infinitetalk weights prune --sources` deletes them.")
    return 0


def _prepared(settings: Settings) -> Iterator[Table]:
    """A table for every folder of models."""
    for weights in dict.fromkeys((settings.weights_folder, settings.bundled_folder)):
        table = Table(title=f"prepared in {weights}", title_justify="left")
        for column in ("model", "preset", "precision", "speakers", "size"):
            table.add_column(column, no_wrap=True)
        table.add_column("made from", overflow="fold")
        for folder, manifest in prepared_folders(weights).items():
            row = (manifest.preset, manifest.precision, str(manifest.speakers))
            table.add_row(folder.name, *row, decimal(size_on_disk(folder)), manifest.recipe)
        yield table


def _damaged(settings: Settings) -> dict[Path, WeightsCorrupt]:
    return damaged_folders(settings.bundled_folder) | damaged_folders(settings.weights_folder)


def _unprepared(settings: Settings) -> list[str]:
    found = {manifest.preset for manifest in prepared_folders(settings.weights_folder).values()}
    # Which preset a damaged one is for is told by its name alone.
    found |= {folder.name.partition("-")[0] for folder in damaged_folders(settings.weights_folder)}
    full = (preset.name for preset in PRESETS.values() if not preset.is_bundled)
    return [preset for preset in full if preset not in found]
