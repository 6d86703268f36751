"""Notes of files whose hashes were found right, so that the next start need not read them whole.

A note says which hash a file had, when it had last been modified, and its size: a copy that broke
off may have kept the time. Times are noted in whole
seconds, since some file systems keep no more. So a file modified just now is not noted: a change in
the same second would go unseen.

Notes lie in the prepared folder; where that is read-only, in a second place. Needs no torch.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

SETTLED_S = 2.0  # the step of the coarsest clock a file system has (FAT)

Stamps = Mapping[str, list[str | int]]
"""File name -> its sha256, the second it was modified in, and its bytes."""


def stamp(path: Path, sha256: str) -> list[str | int]:
    """What is noted of a file with this hash."""
    found = path.stat()
    return [sha256, int(found.st_mtime), found.st_size]


def noted(places: Sequence[Path], stamps: Stamps) -> set[str]:
    """The files of which any place has this very note."""
    known = [read_stamps(place) for place in places]
    return {name for name, note in stamps.items() if any(one.get(name) == note for one in known)}


def read_stamps(place: Path) -> Stamps:
    """The notes of one place; none where there is nothing to read."""
    try:
        stamps = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def write_stamps(places: Sequence[Path], stamps: Stamps, now: float) -> None:
    """Note what has been at rest for a while, in the first place that can be written.

    Args:
        now: seconds since 1970.
    """
    settled = {name: note for name, note in stamps.items() if abs(now - int(note[1])) > SETTLED_S}
    for place in places:
        try:
            _publish(place, json.dumps(settled))
        except OSError:
            continue  # read-only, full: then it is hashed again
        return


def _publish(place: Path, text: str) -> None:
    """Write a file that others read meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}-{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
