"""Fetch the original files of a model, or go on where an interrupted download stopped.

`weights prepare` does this too. Alone it is for fetching on one machine and preparing on another.
"""

import argparse

from rich.console import Console
from rich.filesize import decimal

from infinitetalk.cli.weights.choice import Choice, add_choice
from infinitetalk.cli.weights.fetching import fetch, resumable
from infinitetalk.config import load_settings

console = Console(stderr=True, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights download`."""
    add_choice(parser)


def run(options: argparse.Namespace) -> int:
    """Fetch, and say where the files are."""
    choice = Choice.of(options, load_settings())
    with resumable(console):
        fetched = fetch(choice, choice.parts, console)
    size = sum(path.stat().st_size for one in fetched.values() for path in one.paths)
    where = options.from_folder or choice.downloads
    console.print(f"{decimal(size)} of original files are complete in {where}.")
    return 0
