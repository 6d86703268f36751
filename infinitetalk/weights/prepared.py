"""The format of a prepared model: one folder, everything in it checked.

    <folder>/
        manifest.json               format, preset, recipe; size and sha256 of every other file
        model.json                  the sizes of every network
        transformer.safetensors     tensors under original names, likewise:
        vae.safetensors  text_encoder.safetensors  image_encoder.safetensors
        audio_encoder.safetensors
        tokenizer.json
        verified.json               notes of files whose hashes were found right (see stamps.py)

The manifest is written last, and the folder appears under its name only when complete.
This module needs no torch.
"""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infinitetalk.errors import WeightsCorrupt, WeightsMissing
from infinitetalk.spec import PRESETS
from infinitetalk.weights.stamps import noted, stamp, write_stamps
from infinitetalk.weights.storage import write_durably

log = logging.getLogger(__name__)

FORMAT = 1
BF16, FP8 = "bf16", "fp8"  # precisions of a prepared transformer
LORA = "lora"  # the part of that name, in catalogs and manifests
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
VERIFIED = "verified.json"
_ANEW = "Delete the folder and prepare the model again."


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a prepared folder."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared folder holds and how it came to be."""

    preset: str
    precision: str  # of the transformer: bf16 or fp8
    speakers: int  # that its audio adapter can tell apart
    recipe: str  # a sentence
    files: Mapping[str, FileEntry]
    sources: Sequence[Mapping[str, Any]] = ()  # the original files: repository, revision, hash, ...
    format: int = FORMAT

    @property
    def own_loras(self) -> Sequence[Mapping[str, Any]]:
        """Sources that are LoRAs of somebody's own, not the preset's, in the order of merging."""
        return [row for row in self.sources if row["part"] == LORA and row["repo"] is None]

    @property
    def fingerprint(self) -> str:
        """Identity of the weights: equal fingerprints mean equal tensors."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def usual_name(preset: str, precision: str, speakers: int) -> str:
    """What the folder of a model is called unless somebody names it otherwise."""
    return f"{preset}-{precision}-{speakers}"


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
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    seal(folder, Manifest(preset, precision, speakers, recipe, files))


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest: from now on the folder holds a prepared model."""
    write_durably(folder / MANIFEST, json.dumps(asdict(manifest), indent=1))


def file_entry(path: Path) -> FileEntry:
    """Size and hash of a file as it is."""
    return FileEntry(path.stat().st_size, _sha256(path))


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
        raise WeightsCorrupt(f"{MANIFEST} of {folder.name} is unreadable. {_ANEW}") from error
    try:
        if values.get("format") != FORMAT:
            raise WeightsCorrupt(
                f"{folder.name} has weights format {values.get('format')}; "
                f"this version reads {FORMAT}. {_ANEW}"
            )
        files = {name: FileEntry(**entry) for name, entry in values["files"].items()}
        sources = tuple(values.get("sources", ()))
        return Manifest(**{**values, "files": files, "sources": sources})
    except (AttributeError, KeyError, TypeError) as error:
        raise WeightsCorrupt(f"{MANIFEST} of {folder.name} is incomplete. {_ANEW}") from error


def prepared_folders(weights: Path) -> dict[Path, Manifest]:
    """All prepared models below the weights folder; the manifest says which preset each is for."""
    return {folder: found for folder, found in _found(weights) if isinstance(found, Manifest)}


def damaged_folders(weights: Path) -> dict[Path, WeightsCorrupt]:
    """Models whose manifests are of no use, and why; a manifest of another program is none."""
    return {
        folder: found
        for folder, found in _found(weights)
        if isinstance(found, WeightsCorrupt) and _may_be_ours(folder / MANIFEST)
    }


def _found(weights: Path) -> Iterator[tuple[Path, Manifest | WeightsCorrupt]]:
    for manifest in sorted(weights.glob(f"[!.]*/{MANIFEST}")):  # hidden: still being prepared
        try:
            yield manifest.parent, read_manifest(manifest.parent)
        except WeightsCorrupt as error:
            yield manifest.parent, error


def _may_be_ours(manifest: Path) -> bool:
    """Whether a manifest says which format it is of, or nothing that can be read."""
    try:
        values = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return True
    return isinstance(values, dict) and "format" in values


def verify(
    folder: Path,
    manifest: Manifest,
    *,
    stamps: Path | None = None,
    deep: bool = False,
    clock: Callable[[], float] = time.time,
) -> None:
    """Check sizes always, hashes once for every state of a file (or again when `deep`).

    Args:
        stamps: where it is noted that hashes were right if `folder` is read-only.

    Raises:
        WeightsCorrupt: names the file that is missing, partial or altered.
    """
    for name, entry in manifest.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != entry.size:
            raise damaged(folder, name, manifest, "missing or partial")
    places = [folder / VERIFIED]
    if stamps is not None:
        places.append(stamps / f"{manifest.fingerprint}.json")
    found = {name: stamp(folder / name, entry.sha256) for name, entry in manifest.files.items()}
    unknown = found.keys() - (set() if deep else noted(places, found))
    altered = _altered(folder, manifest, unknown)
    if unknown:
        good = {name: note for name, note in found.items() if name not in altered}
        write_stamps(places, good, clock())
    for name in altered:
        raise damaged(folder, name, manifest, "altered")


def damaged(folder: Path, name: str, manifest: Manifest, how: str) -> WeightsCorrupt:
    """The error for a file of a prepared folder, with what mends it."""
    return WeightsCorrupt(f"The weights file {folder.name}/{name} is {how}. {remedy(manifest)}")


def remedy(manifest: Manifest) -> str:
    """What to do about a damaged folder."""
    preset = PRESETS.get(manifest.preset)
    if preset is not None and preset.is_bundled:
        return "Delete the folder; the next start writes it again."
    command = (
        f"infinitetalk weights prepare --preset {manifest.preset} "
        f"--precision {manifest.precision} --speakers {manifest.speakers}"
    )
    options = " with the --lora and --out that it was made with" if manifest.own_loras else ""
    return f"Run `{command}` again{options}."


def _altered(folder: Path, manifest: Manifest, names: Collection[str]) -> list[str]:
    """Those of the files that do not have the hash they should; several are read at once."""
    if not names:
        return []
    size = sum(manifest.files[name].size for name in names)
    log.info("Hashing %d weights files of %s, %.1f GB.", len(names), folder.name, size / 1e9)
    with ThreadPoolExecutor(thread_name_prefix="weights-hash") as pool:
        hashes = pool.map(_sha256, (folder / name for name in names))
        pairs = zip(names, hashes, strict=True)
        return sorted(name for name, sha256 in pairs if sha256 != manifest.files[name].sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
