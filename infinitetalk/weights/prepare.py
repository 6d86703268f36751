"""Original files to a prepared folder: every network tensor by tensor, so that memory stays small.

    <name>                      the finished folder (see `prepared.py`)
    .<name>.part/               what an interrupted preparation has done; the next one continues it
        recipe.json             what it is done for; another recipe starts anew
    .<name>.old/                the folder that is being replaced, for a moment
    .prepare.lock               held by the process that prepares something here

Fetching the original files is not done here.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tokenizers import Tokenizer

from infinitetalk.errors import InvalidField, SourceFileMissing, WeightsCorrupt, WeightsMissing
from infinitetalk.weights.convert import COMPONENTS
from infinitetalk.weights.lora import LoraReport
from infinitetalk.weights.model_config import MODEL, write_model_config
from infinitetalk.weights.packing import TRANSFORMER, Packer, open_packer
from infinitetalk.weights.prepared import (
    MANIFEST,
    TOKENIZER,
    VERIFIED,
    FileEntry,
    file_entry,
    read_manifest,
    seal,
    verify,
    weights_file,
)
from infinitetalk.weights.recipe import Recipe
from infinitetalk.weights.stamps import stamp, write_stamps
from infinitetalk.weights.storage import (
    exclusively,
    free_bytes,
    require_room,
    room_or_storage_full,
    sync,
    write_durably,
)
from infinitetalk.weights.tensor_writer import (
    SYNC_BYTES,
    TensorWriter,
    file_size,
    finished,
)

RECIPE = "recipe.json"
LOCK = ".prepare.lock"
_TEMPORARY = (RECIPE, "*.journal", "*.new")  # in a work folder
_FILES = (*map(weights_file, COMPONENTS), TOKENIZER, MODEL, MANIFEST, VERIFIED, f".{VERIFIED}-*")

OnProgress = Callable[[str, int, int], None]
"""Told the network, how many bytes of its file are written, and how many there will be."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a preparation did."""

    folder: Path
    is_new: bool  # False: the folder was there, made by the same recipe; nothing else is told then
    kept: Sequence[str] = ()  # networks that an interrupted preparation had finished
    loras: Mapping[str, LoraReport] = field(default_factory=dict)  # by file and scale
    unused: Mapping[str, Sequence[str]] = field(default_factory=dict)  # network -> keys left out
    replaced: Sequence[str] = ()  # keys that base and adapter both hold; the adapter's count


def prepare(
    recipe: Recipe,
    folder: Path,
    *,
    on_progress: OnProgress = lambda _name, _done, _total: None,
    sync_bytes: int = SYNC_BYTES,
    free: Callable[[Path], int] = free_bytes,
    clock: Callable[[], float] = time.time,
) -> Report:
    """Make the prepared folder of a recipe, or go on with what an interrupted process left.

    Args:
        folder: replaced when the new one is complete, if another recipe made it or it is damaged.
        sync_bytes: written between two points from which a killed process can be continued.

    Raises:
        SourceFileMissing: an original file is not there.
        WeightsCorrupt: the original files do not fit the model; the message names the keys.
        InvalidField: the folder holds something else than a prepared model.
        StorageFull: the disk has no room.
        WeightsBusy: another process is preparing weights beside it.
    """
    require_place(folder)
    work = _beside(folder, "part")
    with ExitStack() as stack:
        stack.enter_context(room_or_storage_full())
        stack.enter_context(exclusively(folder.parent / LOCK))
        _settle(folder)
        if _is_made(recipe, folder):
            _tidy(folder)
            return Report(folder, is_new=False)
        _require_tokenizer(recipe)
        packers = [stack.enter_context(open_packer(recipe, name)) for name in COMPONENTS]
        _claim(work, recipe, packers, free)
        kept = [p.component for p in packers if finished(work / weights_file(p.component), p.plan)]
        files = {
            weights_file(packer.component): _write(packer, work, on_progress, sync_bytes)
            for packer in packers
        }
        _complete(work, recipe, files, clock)
        _publish(work, folder)
        _tidy(folder)
    return _report(folder, kept, packers)


def require_place(folder: Path) -> None:
    """Make sure that a prepared folder may come to lie here; nothing of others is ever replaced.

    Raises:
        InvalidField: the folder holds something else than a prepared model, or cannot be written.
    """
    try:
        with room_or_storage_full():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder.parent):
                names = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise InvalidField(f"{folder} cannot be written.", field="out") from error
    if names and not (all(map(_is_own, names)) and _is_model(folder)):
        raise InvalidField(
            f"{folder.name} holds something else than a prepared model; choose another folder.",
            field="out",
        )


def _is_own(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*_FILES, *_TEMPORARY))


def _is_model(folder: Path) -> bool:
    """Whether it holds one, be it damaged."""
    try:
        read_manifest(folder)
    except (WeightsMissing, WeightsCorrupt):
        return (folder / weights_file(TRANSFORMER)).exists()
    return True


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")


def _settle(folder: Path) -> None:
    """Undo or end the replacing of a folder that was interrupted."""
    old = _beside(folder, "old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _is_made(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder is there, made by this recipe and undamaged."""
    if not recipe.is_of(folder):
        return False
    try:
        verify(folder, read_manifest(folder))
    except WeightsCorrupt:
        return False
    return True


def _require_tokenizer(recipe: Recipe) -> None:
    source = recipe.files("tokenizer")[0]
    if not source.local.is_file():
        raise SourceFileMissing(f"The tokenizer {source.path} is not there.")
    try:
        words = Tokenizer.from_file(str(source.local)).get_vocab_size()
    except Exception as error:  # the library raises nothing narrower
        raise WeightsCorrupt(f"The tokenizer {source.path} is unreadable.") from error
    if words > recipe.sizes.text_encoder.vocab:
        raise WeightsCorrupt(f"The tokenizer {source.path} has more words than the text encoder.")


def _claim(
    work: Path, recipe: Recipe, packers: Sequence[Packer], free: Callable[[Path], int]
) -> None:
    """Make the work folder this recipe's; what another recipe left in it goes."""
    note = work / RECIPE
    if not note.is_file() or note.read_text() != recipe.text:
        if work.exists():
            shutil.rmtree(work)
        work.mkdir()
    write_durably(note, recipe.text)
    size = sum(file_size(packer.plan) for packer in packers)
    written = sum(path.stat().st_size for path in work.glob("*.safetensors*"))
    require_room(work, size - written, f"Preparing {recipe.preset} in {recipe.precision}", free)


def _write(packer: Packer, work: Path, on_progress: OnProgress, sync_bytes: int) -> FileEntry:
    """Write the file of a network as far as it is not written yet."""
    target, total = work / weights_file(packer.component), file_size(packer.plan)
    if (entry := finished(target, packer.plan)) is not None:
        return entry
    with TensorWriter(target, packer.plan, sync_bytes=sync_bytes) as writer:
        on_progress(packer.component, writer.position, total)
        for planned in packer.plan[writer.done :]:
            writer.write(packer.make(planned.name))
            on_progress(packer.component, writer.position, total)
        return writer.finish()


def _complete(
    work: Path, recipe: Recipe, files: Mapping[str, FileEntry], clock: Callable[[], float]
) -> None:
    """Add everything else, the manifest last."""
    shutil.copyfile(recipe.files("tokenizer")[0].local, work / TOKENIZER)
    write_model_config(work, recipe.sizes)
    others = {}
    for name in (TOKENIZER, MODEL):
        sync(work / name)
        others[name] = file_entry(work / name)
    _note_hashes(work, {**files, **others}, clock())
    seal(work, recipe.manifest({**files, **others}))


def _note_hashes(work: Path, files: Mapping[str, FileEntry], now: float) -> None:
    """What was hashed while it was written need not be read again by the first start."""
    stamps = {name: stamp(work / name, entry.sha256) for name, entry in files.items()}
    write_stamps([work / VERIFIED], stamps, now)


def _publish(work: Path, folder: Path) -> None:
    """Give the complete folder its name; the one that had it is gone only afterwards."""
    old = _beside(folder, "old")
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what only an interrupted preparation needs."""
    for pattern in _TEMPORARY:
        for path in folder.glob(pattern):
            path.unlink()


def _report(folder: Path, kept: Sequence[str], packers: Sequence[Packer]) -> Report:
    return Report(
        folder,
        is_new=True,
        kept=kept,
        loras={
            f"{lora.name} x {lora.scale:g}": lora.report
            for packer in packers
            for lora in packer.loras
        },
        unused={packer.component: packer.unused for packer in packers},
        replaced=[key for packer in packers for key in packer.replaced],
    )
