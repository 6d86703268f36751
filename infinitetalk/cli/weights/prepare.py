"""Make a model ready to load: fetch what is missing, merge base, adapter and LoRA, write it.

The result is a folder under INFINITETALK_WEIGHTS that every start loads in seconds. Memory stays
below 6 GB; an interrupted run continues where it stopped.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal

from infinitetalk.cli.progress_bar import TerminalBar
from infinitetalk.cli.weights.choice import Choice, add_choice
from infinitetalk.cli.weights.fetching import fetch, resumable
from infinitetalk.config import load_settings
from infinitetalk.errors import FileMissing, InvalidField, WeightsCorrupt, WeightsMissing
from infinitetalk.weights.catalog import Part
from infinitetalk.weights.download import Fetched
from infinitetalk.weights.prepared import (
    BF16,
    FP8,
    LORA,
    file_entry,
    read_manifest,
    usual_name,
    verify,
)
from infinitetalk.weights.provenance import is_made_of
from infinitetalk.weights.storage import size_on_disk

if TYPE_CHECKING:  # loading torch takes a second; wrong options are refused before that
    from infinitetalk.weights.prepare import Report
    from infinitetalk.weights.recipe import LoraFile, SourceFile

console = Console(stderr=True, highlight=False, soft_wrap=True)


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
        help="merge this LoRA instead of the preset's own (with --out); several are added in order",
    )
    add("--out", type=Path, metavar="DIR", help="(default: PRESET-PRECISION-SPEAKERS, see status)")


def run(options: argparse.Namespace) -> int:
    """Prepare, and say what became of it."""
    from infinitetalk.weights.prepare import require_place

    settings = load_settings()
    choice = Choice.of(options, settings)
    if options.lora and options.out is None:
        raise InvalidField(
            "Another LoRA makes another model than the preset's own: name its folder with --out.",
            field="out",
        )
    usual = usual_name(choice.preset, options.precision, choice.speakers)
    folder = (options.out or settings.weights_folder / usual).resolve()
    loras = _own_loras(options.lora)
    if _is_prepared(folder, options.precision, choice, loras):
        console.print(f"{folder} is prepared already.")
        return 0
    require_place(folder)
    with resumable(console):
        report = _prepare(choice, options.precision, loras, folder)
    _tell(report)
    if folder.parent != settings.weights_folder.resolve():
        console.print(f"It is found where INFINITETALK_WEIGHTS is {folder.parent}.")
    if options.from_folder is None:
        console.print("The original files can go now: `infinitetalk weights prune --sources`")
    return 0


def _own_loras(named: Sequence[tuple[Path, float]]) -> "list[LoraFile]":
    """The LoRAs of the command line, looked at before gigabytes are fetched for them."""
    from infinitetalk.weights.recipe import LoraFile, SourceFile
    from infinitetalk.weights.tensor_file import TensorFile

    for path, _ in named:
        if not path.is_file():
            raise FileMissing(f"The LoRA {path} does not exist.", field="lora")
        with TensorFile(path, path.name):
            pass
    return [
        LoraFile(SourceFile(path, path.name, sha256=file_entry(path).sha256), scale)
        for path, scale in named
    ]


def _parts(choice: Choice, loras: "Sequence[LoraFile]") -> list[Part]:
    """What is fetched: the preset's own LoRA only where no other takes its place."""
    return [part for part in choice.parts if part.name != LORA or not loras]


def _is_prepared(folder: Path, precision: str, choice: Choice, loras: "Sequence[LoraFile]") -> bool:
    """Whether it is there and whole, so that nothing is fetched to find out the same."""
    try:
        manifest = read_manifest(folder)
        verify(folder, manifest)
    except (WeightsMissing, WeightsCorrupt):
        return False
    made = (manifest.preset, manifest.precision, manifest.speakers)
    wanted = (choice.preset, precision, choice.speakers)
    own = [(lora.file.sha256 or "", lora.scale) for lora in loras]
    return made == wanted and is_made_of(manifest, _parts(choice, loras), own)


def _prepare(choice: Choice, precision: str, loras: "Sequence[LoraFile]", folder: Path) -> "Report":
    from infinitetalk.weights.prepare import prepare
    from infinitetalk.weights.recipe import LoraFile, Recipe

    files = _local_files(fetch(choice, _parts(choice, loras), console))
    presets_own = [LoraFile(file, _scale(choice)) for file in files.pop(LORA, ())]
    recipe = Recipe(
        choice.preset, precision, choice.speakers, files, loras or presets_own, choice.sizes
    )
    with TerminalBar(console, "looking at the original files") as bar:

        def show(name: str, done: int, total: int) -> None:
            line = f"{name}: {int(done / total * 4) * 25} % of {decimal(total)}"
            bar.update(done / total, f"{name}: {decimal(done)} of {decimal(total)}", line)

        return prepare(recipe, folder, on_progress=show)


def _scale(choice: Choice) -> float:
    return next((part.scale for part in choice.parts if part.scale is not None), 1.0)


def _local_files(fetched: Mapping[str, Fetched]) -> "dict[str, list[SourceFile]]":
    """The files of every part, with where they come from."""
    return {name: [*_files_of(one)] for name, one in fetched.items()}


def _files_of(one: Fetched) -> "Iterator[SourceFile]":
    from infinitetalk.weights.recipe import SourceFile

    source = one.source
    for file, path in zip(source.files, one.paths, strict=True):
        yield SourceFile(path, file.path, source.repo, source.revision, file.sha256, source.licence)


def _tell(report: "Report") -> None:
    if not report.is_new:
        console.print(f"{report.folder} is prepared already.")
        return
    for name, lora in report.loras.items():
        console.print(f"LoRA {name}: {lora.summary}")
        for warning in lora.warnings:
            console.print(f"  {warning}")
    if report.replaced:
        console.print(f"{len(report.replaced)} tensors of the base are replaced by the adapter's.")
    for network, keys in report.unused.items():
        if keys:
            console.print(f"{network}: {len(keys)} tensors of the original are not needed.")
    if report.kept:
        console.print(f"Continued; finished before: {', '.join(report.kept)}.")
    console.print(f"{report.folder} is prepared: {decimal(size_on_disk(report.folder))}.")


def _lora(text: str) -> tuple[Path, float]:
    """FILE or FILE:SCALE; a file may have a colon in its name."""
    if Path(text).exists() or ":" not in text:
        return Path(text), 1.0
    name, _, scale = text.rpartition(":")
    try:
        factor = float(scale)
    except ValueError:
        raise argparse.ArgumentTypeError(f"the scale {scale!r} is no number") from None
    if not math.isfinite(factor):
        raise argparse.ArgumentTypeError(f"the scale {scale!r} is no number")
    return Path(name), factor
