"""Is the file of the job store damaged? Then it goes aside, and nothing takes its place unasked.

Only for a process that is alone with the file: under others' feet nothing is moved. They meet the
damage as an error of their own; whoever opens the file next after them looks at it here.
"""

import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from infinitetalk.errors import StoreCorrupt

DAMAGED = ".damaged-"
SIGNS = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
log = logging.getLogger(__name__)


def refuse_damaged(path: Path) -> None:
    """
    Raises:
        StoreCorrupt: the file is damaged and was moved aside, now or before.
    """
    if not path.exists():
        _refuse_replacement(path)
    elif _is_damaged(path) and _is_damaged(path):  # the first look may have met a passing fault
        _move_aside(path)
        raise StoreCorrupt("The job store is damaged and was moved aside.")


def _refuse_replacement(path: Path) -> None:
    if any(path.parent.glob(f"{path.name}{DAMAGED}*")):
        raise StoreCorrupt(
            "The job store was damaged and moved aside. Restore a backup, or delete what was "
            "moved aside to start with an empty one."
        )


def _is_damaged(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        try:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in SIGNS:
                return True
            raise


def _move_aside(path: Path) -> None:
    """Rename the file and its log alike, so that SQLite's tools still find both."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("-shm", "-wal", ""):  # the file itself last: it is what the next start looks for
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{path.name}{DAMAGED}{stamp}{suffix}"))
    log.critical("The job store %s is damaged and was moved aside. Restore a backup.", path)
