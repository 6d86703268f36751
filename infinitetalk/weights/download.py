"""The original files of a model, fetched once: several at a time, resumed, verified.

    <folder>/<owner>/<name>/<path>      a file, named as on the hub
    <folder>/hashes.json                notes of hashes, so that nothing is hashed twice
    <folder>/downloads.json             what came from where; written last

Whatever ends a download, the next one continues it. Where the files are is the catalog's matter,
how their bytes get here the origin's, what becomes of them that of `prepare.py`. Needs no torch.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infinitetalk.errors import Canceled, InvalidSetting, SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.catalog import Part, RemoteFile, Source
from infinitetalk.weights.file_hashes import FileHashes
from infinitetalk.weights.in_parallel import in_parallel
from infinitetalk.weights.origin import Origin, advice, pin
from infinitetalk.weights.storage import (
    exclusively,
    free_bytes,
    require_room,
    room_or_storage_full,
    write_durably,
)

log = logging.getLogger(__name__)

FORMAT = 1
DOWNLOADS = "downloads.json"
HASHES = "hashes.json"
LOCK = ".lock"
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """A part whose files are here."""

    part: Part
    source: Source  # the one taken, as it was found: revision, sizes and hashes filled in
    paths: tuple[Path, ...]  # in the order of the source's files
    passed_over: tuple[str, ...]  # why better sources were not taken


@dataclass(frozen=True, slots=True)
class Progress:
    """How far all files together are, in bytes."""

    file: str  # that moved
    fetched: int  # here, those of an earlier attempt included
    checked: int  # of them, hash known
    total: int


def download(
    parts: Iterable[Part],
    origin: Origin,
    folder: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    workers: int = WORKERS,
    free: Callable[[Path], int] = free_bytes,
    clock: Callable[[], float] = time.time,
) -> dict[str, Fetched]:
    """Make the files of all parts local and verify them.

    Args:
        on_progress: called from several threads, one after another.

    Returns:
        What was fetched for each part, by its name.

    Raises:
        SourceFileMissing: no source of a part has all its files.
        SourceForbidden: the hub wants a token, or a licence accepted.
        ConnectionFailed: the hub cannot be reached.
        StorageFull: the disk has no room.
        InvalidSetting: the folder cannot be written.
        WeightsBusy: another process is at it.
        WeightsCorrupt: a file is not the one that the catalog or the hub announce.
    """
    _require_writable(folder)
    with exclusively(folder / LOCK), room_or_storage_full():
        chosen = [_choose(part, origin) for part in parts]
        wanted = [(one.source, file) for one in chosen for file in one.source.files]
        missing = sum(origin.missing_bytes(*one, folder) for one in wanted)
        require_room(folder, missing, "Fetching the original weights", free)
        tally = _Tally(sum(file.size or 0 for _, file in wanted), on_progress)
        hashes = FileHashes(folder / HASHES, clock)

        def fetch(one: tuple[Source, RemoteFile]) -> tuple[RemoteFile, Path]:
            source, file = one
            path = origin.fetch(source, file, folder, tally.fetched(file))
            sha256 = hashes.sha256(path, tally.checked(file))
            if sha256 != (file.sha256 or sha256):
                if origin.makes_copies:
                    path.unlink()
                raise _another_file(source, file, sha256, origin)
            return replace(file, sha256=sha256), path

        done = iter(in_parallel(fetch, wanted, workers, tally.stop))
        fetched = [_complete(one, [next(done) for _ in one.source.files]) for one in chosen]
        _record(folder, origin, fetched)
    return {one.part.name: one for one in fetched}


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise InvalidSetting(
            "The folder for the original weights cannot be written; INFINITETALK_WEIGHTS chooses "
            "another place for it."
        ) from error


def _choose(part: Part, origin: Origin) -> Fetched:
    """The first source that has all its files; none of them is fetched yet."""
    passed_over: list[SourceFileMissing | WeightsCorrupt] = []
    for source in part.sources:
        try:
            why = tuple(error.message for error in passed_over)
            return Fetched(part, pin(origin, source), (), why)
        except (SourceFileMissing, WeightsCorrupt) as error:
            log.warning("the source %s of %s is passed over: %s", source.name, part.name, error)
            passed_over.append(error)
    is_there = any(isinstance(error, WeightsCorrupt) for error in passed_over)  # but another file
    reasons = " ".join(error.message for error in passed_over)
    kind = WeightsCorrupt if is_there else SourceFileMissing
    raise kind(f"The {part.name} is nowhere to be had: {reasons}")


def _another_file(source: Source, file: RemoteFile, sha256: str, origin: Origin) -> WeightsCorrupt:
    """The error for a file with another hash: a copy of ours, now deleted, or the user's file."""
    if origin.makes_copies:
        return WeightsCorrupt(
            f"{file.path} of {source.repo} arrived altered and is deleted; the same command "
            "fetches it again."
        )
    return WeightsCorrupt(
        f"{file.path} of {source.repo} in {origin.name} is not the file that the catalog means: "
        f"its sha256 is {sha256}, not {file.sha256}. {advice(origin)}"
    )


def _complete(one: Fetched, files: Sequence[tuple[RemoteFile, Path]]) -> Fetched:
    source = replace(one.source, files=tuple(file for file, _ in files))
    return replace(one, source=source, paths=tuple(path for _, path in files))


def _record(folder: Path, origin: Origin, fetched: Iterable[Fetched]) -> None:
    """Write what came from where; what earlier downloads brought stays on the list."""
    rows = {(row["repo"], row["path"]): row for row in _recorded(folder / DOWNLOADS)}
    for one in fetched:
        for file in one.source.files:
            rows[one.source.repo, file.path] = {
                "part": one.part.name,
                "origin": origin.name,
                "source": one.source.name,
                "repo": one.source.repo,
                "revision": one.source.revision,
                "path": file.path,
                "size": file.size,
                "sha256": file.sha256,
                "licence": one.source.licence,
            }
    content = {"format": FORMAT, "files": [rows[key] for key in sorted(rows)]}
    write_durably(folder / DOWNLOADS, json.dumps(content, indent=1))


def _recorded(place: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(place.read_text())
        return content["files"] if content["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


class _Tally:
    """Counts the bytes of all files and tells whoever wants to know."""

    def __init__(self, total: int, on_progress: Callable[[Progress], None]) -> None:
        self.stop = threading.Event()
        self._now = Progress("", 0, 0, total)
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def fetched(self, file: RemoteFile) -> Callable[[int], None]:
        return lambda count: self._add(file.path, count, 0)

    def checked(self, file: RemoteFile) -> Callable[[int], None]:
        return lambda count: self._add(file.path, 0, count)

    def _add(self, path: str, fetched: int, checked: int) -> None:
        with self._lock:
            if self.stop.is_set():
                raise Canceled("The download was stopped.")
            now = self._now
            self._now = Progress(path, now.fetched + fetched, now.checked + checked, now.total)
            self._on_progress(self._now)
