"""What lies in the weights folders that nothing needs any more, and its removal."""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infinitetalk.errors import InvalidField
from infinitetalk.weights import download, prepare
from infinitetalk.weights.prepared import BF16, FP8, MANIFEST, prepared_folders
from infinitetalk.weights.storage import SOURCES, exclusively, size_on_disk
from infinitetalk.weights.synthetic import SIZES, folder_name

_ABANDONED_S = 3600.0  # tiny and demo are written within seconds


@dataclass(frozen=True, slots=True)
class Leftover:
    """A folder that can go, and why."""

    folder: Path
    why: str
    size: int  # bytes on disk


def leftovers(weights: Path, *, with_sources: bool = False) -> list[Leftover]:
    """Interrupted preparations and models of outdated recipes; downloads too where asked for."""
    found = [*_interrupted(weights), *_outdated(weights)]
    if with_sources and (weights / SOURCES).is_dir():
        found.append((weights / SOURCES, "original files; a prepared model does not need them"))
    return [Leftover(folder, why, size_on_disk(folder)) for folder, why in found]


def prepared_model(weights: Path, name: str) -> Leftover:
    """A prepared model that somebody wants to be rid of.

    Raises:
        InvalidField: there is none of this name.
    """
    folder = weights / name
    if folder.parent != weights or not (folder / MANIFEST).is_file():
        names = ", ".join(path.name for path in prepared_folders(weights)) or "none"
        raise InvalidField(
            f"There is no prepared model {name!r}; there are: {names}.", field="name"
        )
    return Leftover(folder, "as you wish", size_on_disk(folder))


def remove(found: Iterable[Leftover]) -> None:
    """Delete; the manifest goes first, so that a half-deleted model is none.

    Raises:
        WeightsBusy: a process is fetching or preparing there.
    """
    for leftover in found:
        with exclusively(_lock_of(leftover.folder)):
            (leftover.folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(leftover.folder)


def _lock_of(folder: Path) -> Path:
    return folder / download.LOCK if folder.name == SOURCES else folder.parent / prepare.LOCK


def _interrupted(weights: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted(weights.glob(".*.part")):
        if (folder / prepare.RECIPE).is_file():
            yield folder, "an interrupted preparation; it would continue where it stopped"
    for preset in SIZES:
        for folder in sorted(weights.glob(f".{preset}-*")):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _ABANDONED_S:
                yield folder, f"an interrupted writing of {preset}"


def _outdated(weights: Path) -> Iterator[tuple[Path, str]]:
    current = {folder_name(preset, precision) for preset in SIZES for precision in (BF16, FP8)}
    for folder, manifest in prepared_folders(weights).items():
        if manifest.preset in SIZES and folder.name not in current:
            yield folder, f"weights of {manifest.preset} that another version made"
