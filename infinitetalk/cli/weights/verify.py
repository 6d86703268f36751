"""Check prepared models: sizes and headers, or with --deep every byte."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import WeightsCorrupt
from infinitetalk.weights.prepared import (
    Manifest,
    damaged,
    damaged_folders,
    prepared_folders,
    verify,
    weights_file,
)

console = Console(highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights verify`."""
    parser.add_argument("--deep", action="store_true", help="hash every file again")


def run(options: argparse.Namespace) -> int:
    """Say of every model whether it is whole; 3 when one is not."""
    settings = load_settings()
    places = dict.fromkeys((settings.weights_folder, settings.bundled_folder))
    verdicts = [
        verdict for place in places for verdict in _verdicts(place, settings, deep=options.deep)
    ]
    for folder, error in verdicts:
        said = "good" if error is None else f"{error.message} ({error.code})"
        console.print(f"{folder.name}: {said}", markup=False)
    if not verdicts:
        console.print(f"Nothing is prepared in {' or '.join(map(str, places))}.", markup=False)
    return WeightsCorrupt.exit_code if any(error for _, error in verdicts) else 0


def _verdicts(
    weights: Path, settings: Settings, *, deep: bool
) -> Iterator[tuple[Path, WeightsCorrupt | None]]:
    """Every model of a folder and what is wrong with it."""
    yield from damaged_folders(weights).items()
    for folder, manifest in prepared_folders(weights).items():
        try:
            verify(folder, manifest, stamps=settings.stamps_folder, deep=deep)
            _require_headers(folder, manifest)
            yield folder, None
        except WeightsCorrupt as error:
            yield folder, error


def _require_headers(folder: Path, manifest: Manifest) -> None:
    """Refuse a file whose header is not that of its network, however old the file says it is."""
    from infinitetalk.weights.convert import COMPONENTS, require_fit  # torch takes a second
    from infinitetalk.weights.model_config import read_model_config
    from infinitetalk.weights.reading import read_header

    config = read_model_config(folder)
    for name in COMPONENTS:
        try:
            entries = read_header(folder / weights_file(name))
            shapes = {key: entry.shape for key, entry in entries.items()}
            require_fit(name, getattr(config, name), shapes)
        except (OSError, EOFError, ValueError, WeightsCorrupt) as error:
            raise damaged(folder, weights_file(name), manifest, "altered in its header") from error
