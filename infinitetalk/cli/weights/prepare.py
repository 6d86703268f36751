"""Make a model ready to load: fetch what is missing, merge base, adapter and LoRA, write it.

The result is a folder under INFINITETALK_WEIGHTS that every start loads in seconds. Memory stays
below 6 GB; an interrupted run continues where it stopped.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal

from infinitetalk.cli.progress_bar import TerminalBar
from infinitetalk.cli.weights.choice import Choice, add_choice
from infinitetalk.cli.weights.fetching import fetch
from infinitetalk.config import load_settings
from infinitetalk.errors import FileMissing, WeightsCorrupt, WeightsMissing
from infinitetalk.weights.download import Fetched
from infinitetalk.weights.prepared import BF16, FP8, read_manifest, verify
from infinitetalk.weights.provenance import is_made_of
from infinitetalk.weights.storage import size_on_disk

if TYPE_CHECKING:  # loading torch takes a second; wrong options are refused before that
    from infinitetalk.weights.prepare import Report
    from infinitetalk.weights.recipe import SourceFile

console = Console(stderr=True, highlight=False, soft_wrap=True)

LORA = "lora"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk weights prepare`."""
    add_choice(parser)
    add = parser.add_argument
    add(
        "--precision",
        choices=(FP8, BF16),
        default=FP8,
        help="of the transformer: fp8 for GPUs of 48 GB, bf16 for 80 GB and more (default: fp8)",
    )
    add(
        "--lora",
        type=_lora,
        action="append",
        default=[],
        metavar="FILE[:SCALE]",
        help="merge this LoRA instead of the preset's own; several are added in order",
    )
    add("--out", type=Path, metavar="DIR", help="(default: PRESET-PRECISION-SPEAKERS, see status)")


def run(options: argparse.Namespace) -> int:
    """Prepare, and say what became of it."""
    settings = load_settings()
    choice = Choice.of(options, settings)
    _require_loras(path for path, _ in options.lora)
    folder = options.out or settings.weights_folder / _name(choice, options.precision)
    if not options.lora and _is_prepared(folder, options.precision, choice):
        console.print(f"{folder} is prepared already.")
        return 0
    _tell(_prepare(choice, options, folder))
    if options.from_folder is None:
        console.print("The original files can go now: `infinitetalk weights prune --sources`")
    return 0


def _require_loras(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise FileMissing(f"The LoRA {path} does not exist.", field="lora")


def _name(choice: Choice, precision: str) -> str:
    return f"{choice.preset}-{precision}-{choice.speakers}"


def _is_prepared(folder: Path, precision: str, choice: Choice) -> bool:
    """Whether it is there and whole, so that nothing is fetched to find out the same."""
    try:
        manifest = read_manifest(folder)
        verify(folder, manifest)
    except (WeightsMissing, WeightsCorrupt):
        return False
    made = (manifest.preset, manifest.precision, manifest.speakers)
    wanted = (choice.preset, precision, choice.speakers)
    return made == wanted and is_made_of(manifest, choice.parts)


def _prepare(choice: Choice, options: argparse.Namespace, folder: Path) -> "Report":
    from infinitetalk.weights.prepare import prepare
    from infinitetalk.weights.recipe import LoraFile, Recipe, SourceFile

    parts = [part for part in choice.parts if part.name != LORA or not options.lora]
    files = _local_files(fetch(choice, parts, console))
    own = [LoraFile(file, _scale(choice)) for file in files.pop(LORA, ())]
    named = [LoraFile(SourceFile(path, path.name), scale) for path, scale in options.lora]
    recipe = Recipe(
        choice.preset, options.precision, choice.speakers, files, named or own, choice.sizes
    )
    with TerminalBar(console, "looking at the original files") as bar:

        def show(name: str, done: int, total: int) -> None:
            line = f"{name}: {int(done / total * 4) * 25} % of {decimal(total)}"
            bar.update(done / total, f"{name}: {decimal(done)} of {decimal(total)}", line)

        return prepare(recipe, folder, on_progress=show)


def _scale(choice: Choice) -> float:
    return next(part.scale for part in choice.parts if part.scale is not None)


def _local_files(fetched: Mapping[str, Fetched]) -> "dict[str, list[SourceFile]]":
    """The files of every part, with where they come from."""
    return {name: [*_files_of(one)] for name, one in fetched.items()}


def _files_of(one: Fetched) -> "Iterator[SourceFile]":
    from infinitetalk.weights.recipe import SourceFile

    source = one.source
    for file, path in zip(source.files, one.paths, strict=True):
        yield SourceFile(path, file.path, source.repo, source.revision, file.sha256, source.licence)


def _tell(report: "Report") -> None:
    for name, lora in report.loras.items():
        console.print(f"LoRA {name}: {lora.summary}")
        for warning in lora.warnings:
            console.print(f"  {warning}")
    if report.replaced:
        console.print(f"{len(report.replaced)} tensors of the base are replaced by the adapter's.")
    if report.kept:
        console.print(f"Continued; finished before: {', '.join(report.kept)}.")
    console.print(f"{report.folder} is prepared: {decimal(size_on_disk(report.folder))}.")


def _lora(text: str) -> tuple[Path, float]:
    name, _, scale = text.rpartition(":")
    try:
        return Path(name), float(scale)
    except ValueError:
        return Path(text), 1.0
