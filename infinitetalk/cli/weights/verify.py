"""Check prepared models: sizes and headers, or with --deep every byte."""

import argparse

from rich.console import Console

from infinitetalk.config import load_settings
from infinitetalk.errors import WeightsCorrupt
from infinitetalk.weights.prepared import prepared_folders, verify

console = Console(highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights verify`."""
    parser.add_argument("--deep", action="store_true", help="hash every file again")


def run(options: argparse.Namespace) -> int:
    """Say of every model whether it is whole; 3 when one is not."""
    settings = load_settings()
    broken = False
    for weights in dict.fromkeys((settings.weights_folder, settings.bundled_folder)):
        for folder, manifest in prepared_folders(weights).items():
            try:
                verify(folder, manifest, deep=options.deep)
                console.print(f"{folder.name}: good")
            except WeightsCorrupt as error:
                broken = True
                console.print(f"{folder.name}: {error.message} ({error.code})")
    return WeightsCorrupt.exit_code if broken else 0
