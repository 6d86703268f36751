"""Recipes from the files of a fake hub, and processes that follow them."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infinitetalk.weights.catalog import Part
from infinitetalk.weights.catalog_file import read_catalog
from infinitetalk.weights.model_config import ModelConfig
from infinitetalk.weights.prepare import prepare
from infinitetalk.weights.recipe import LoraFile, Recipe, SourceFile
from infinitetalk.weights.synthetic import model_config
from tests.fake_hub import CATALOG_FILE

SYNC_BYTES = 60_000  # several times per file of such sizes


def small_recipe(
    hub: Path, preset: str = "standard", precision: str = "fp8", speakers: int = 1, source: int = 0
) -> Recipe:
    """What makes a preset out of such files.

    Args:
        source: which one of every part is taken; the last where there are fewer.
    """
    parts = read_catalog(hub / CATALOG_FILE).needed(preset, speakers)
    files = {part.name: _files(hub, part, source) for part in parts}
    loras = [LoraFile(files.pop(part.name)[0], part.scale) for part in parts if part.scale]
    return Recipe(preset, precision, speakers, files, loras, model_config("tiny"))


def with_files(recipe: Recipe, part: str, *files: Path) -> Recipe:
    """The recipe with other files for a part."""
    found = [SourceFile(file, file.name) for file in files]
    return replace(recipe, sources={**recipe.sources, part: found})


def with_loras(recipe: Recipe, *loras: tuple[Path, float]) -> Recipe:
    """The recipe with other LoRAs."""
    found = [LoraFile(SourceFile(file, file.name), scale) for file, scale in loras]
    return replace(recipe, loras=found)


def _files(hub: Path, part: Part, index: int) -> Sequence[SourceFile]:
    source = part.sources[min(index, len(part.sources) - 1)]
    return [
        SourceFile(
            hub / source.repo / file.path,
            file.path,
            source.repo,
            source.revision,
            file.sha256,
            source.licence,
        )
        for file in source.files
    ]


def prepare_until_killed(hub: Path, folder: Path, calls: int) -> None:
    """Kill this process when it has reported progress so often."""
    left = calls

    def count(component: str, done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(small_recipe(hub), folder, on_progress=count, sync_bytes=SYNC_BYTES)


def run_attempts(hub: Path, *attempts: str) -> None:
    """Run every attempt FOLDER=CALLS in a process of its own; prints how each ended."""
    for attempt in attempts:
        folder, _, calls = attempt.partition("=")
        child = os.fork()
        if child == 0:
            prepare_until_killed(hub, Path(folder), int(calls))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def middle_sizes() -> ModelConfig:
    """Those of `tiny`, but a transformer whose tensors outweigh everything else."""
    sizes = model_config("tiny")
    wide = replace(sizes.transformer, dim=1024, ffn_dim=2560, heads=8, layers=3)
    return replace(sizes, transformer=wide)


def measure_peak(hub: Path, folder: Path) -> None:
    """Prepare files of middle size; prints by how many MB the memory ever grew."""
    small = small_recipe(hub)
    prepare(small, folder / "warm")
    before = _peak_mb()
    recipe = with_files(small, "base", folder / "base.pth")
    recipe = with_files(recipe, "audio", folder / "audio.safetensors")
    recipe = with_loras(recipe, (folder / "lora.safetensors", 1.0))
    prepare(replace(recipe, sizes=middle_sizes()), folder / "it")
    print(_peak_mb() - before)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main(hub: str, middle: str, *attempts: str) -> None:
    """Be killed at each attempt FOLDER=CALLS, then measure with the files in the folder `middle`.

    One process for both: to import everything takes it longer than all the rest.
    """
    run_attempts(Path(hub), *attempts)
    measure_peak(Path(hub), Path(middle))


if __name__ == "__main__":
    main(*sys.argv[1:])
