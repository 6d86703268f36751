"""The format of a prepared model: one folder, everything in it checked.

    <folder>/
        manifest.json               format, preset, recipe; size and sha256 of every other file
        model.json                  the sizes of every network
        transformer.safetensors     tensors under original names, likewise:
        vae.safetensors  text_encoder.safetensors  image_encoder.safetensors
        audio_encoder.safetensors
        tokenizer.json
        verified.json               sizes and times of the files whose hashes were found right

The manifest is written last, and the folder appears under its name only when complete.
This module needs no torch.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infinitetalk.errors import WeightsCorrupt, WeightsMissing
from infinitetalk.spec import PRESETS

FORMAT = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
VERIFIED = "verified.json"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a prepared folder."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared folder holds and how it came to be."""

    preset: str
    precision: str
    speakers: int
    recipe: str
    files: Mapping[str, FileEntry]
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """Identity of the weights: equal fingerprints mean equal tensors."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def weights_file(component: str) -> str:
    return f"{component}.safetensors"


@contextmanager
def preparing(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well, and vanishes otherwise.

    If another process finished the same folder meanwhile, theirs is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        try:
            part.rename(folder)
        except OSError:
            if not (folder / MANIFEST).exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_manifest(folder: Path, preset: str, precision: str, speakers: int, recipe: str) -> None:
    """Seal a folder: hash every file in it and write the manifest."""
    files = {
        path.name: FileEntry(path.stat().st_size, _sha256(path))
        for path in sorted(folder.iterdir())
    }
    manifest = Manifest(preset, precision, speakers, recipe, files)
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        WeightsMissing: there is no prepared model.
        WeightsCorrupt: the manifest is unreadable or of a newer format.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise WeightsMissing(f"There is no prepared model in {folder.name}.") from None
    except (OSError, ValueError) as error:
        raise WeightsCorrupt(f"{MANIFEST} of {folder.name} is unreadable.") from error
    try:
        if values.get("format") != FORMAT:
            raise WeightsCorrupt(
                f"{folder.name} has weights format {values.get('format')}; "
                f"this version reads {FORMAT}."
            )
        files = {name: FileEntry(**entry) for name, entry in values["files"].items()}
        return Manifest(**{**values, "files": files})
    except (AttributeError, KeyError, TypeError) as error:
        raise WeightsCorrupt(f"{MANIFEST} of {folder.name} is incomplete.") from error


def prepared_folders(weights: Path) -> dict[Path, Manifest]:
    """All prepared models below the weights folder; the manifest says which preset each is for."""
    found = {}
    for manifest in sorted(weights.glob(f"[!.]*/{MANIFEST}")):  # hidden: still being prepared
        try:
            found[manifest.parent] = read_manifest(manifest.parent)
        except WeightsCorrupt:
            continue  # not a model of this version; loading it by name says why
    return found


def find_weights(preset: str, weights: Path) -> Path:
    """The prepared folder of a preset.

    Raises:
        WeightsMissing: nobody has prepared it.
    """
    for folder, manifest in prepared_folders(weights).items():
        if manifest.preset == preset:
            return folder
    raise WeightsMissing(
        f"The weights of the preset {preset} are not prepared; demo and tiny need no preparing."
    )


def require_weights(preset: str, weights: Path) -> None:
    """Refuse a preset that could not be loaded, without loading anything.

    Raises:
        WeightsMissing: nobody has prepared it.
    """
    if not PRESETS[preset].is_bundled:
        find_weights(preset, weights)


def verify(folder: Path, manifest: Manifest, *, deep: bool = False) -> None:
    """Check sizes always, hashes once for every state of a file (or again when `deep`).

    Raises:
        WeightsCorrupt: names the file that is missing, partial or altered.
    """
    stamps = {} if deep else _read_stamps(folder)
    found: dict[str, list[int]] = {}
    for name, entry in manifest.files.items():
        path = folder / name
        state = path.stat() if path.is_file() else None
        if state is None or state.st_size != entry.size:
            raise WeightsCorrupt(f"The weights file {folder.name}/{name} is missing or partial.")
        found[name] = [state.st_size, state.st_mtime_ns]
        if stamps.get(name) != found[name] and _sha256(path) != entry.sha256:
            raise WeightsCorrupt(f"The weights file {folder.name}/{name} is altered.")
    if stamps != found and os.access(folder, os.W_OK):  # a read-only folder is hashed each time
        (folder / VERIFIED).write_text(json.dumps(found))


def _read_stamps(folder: Path) -> Any:
    try:
        stamps = json.loads((folder / VERIFIED).read_text())
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
