"""Hashes of large files, computed once for every state of a file.

What `stamps.py` notes of prepared files, for originals: here nobody may know beforehand which hash
a file should have. Needs no torch.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from infinitetalk.weights.stamps import read_stamps, stamp, write_stamps

BLOCK = 8 << 20  # bytes


class FileHashes:
    """The hashes noted in one place; several threads may ask."""

    def __init__(self, place: Path, clock: Callable[[], float]) -> None:
        """Args:
        place: the file of notes; names in it are relative to its folder.
        clock: seconds since 1970.
        """
        self._place = place
        self._clock = clock
        self._notes = {
            name: note
            for name, note in read_stamps(place).items()
            if isinstance(note, list) and [*map(type, note)] == [str, int, int]
        }
        self._lock = threading.Lock()

    def sha256(self, path: Path, on_bytes: Callable[[int], None]) -> str:
        """The hash of a file, read unless it is noted.

        Args:
            on_bytes: told how many more bytes are accounted for; by raising it stops the reading.
        """
        name = self._name(path)
        known = str(self._notes.get(name, [""])[0])
        if self._notes.get(name) == stamp(path, known):
            on_bytes(path.stat().st_size)
            return known
        before = stamp(path, "")
        found = _sha256(path, on_bytes)
        if stamp(path, "") == before:  # nobody wrote to it meanwhile
            self._note(name, stamp(path, found))
        return found

    def _note(self, name: str, note: list[str | int]) -> None:
        with self._lock:
            self._notes[name] = note
            write_stamps([self._place], self._notes, self._clock())

    def _name(self, path: Path) -> str:
        folder = self._place.parent
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path.resolve())


def _sha256(path: Path, on_bytes: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            on_bytes(len(block))
            digest.update(block)
    return digest.hexdigest()
