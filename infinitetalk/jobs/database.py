"""The SQLite file under the job store, the queue and the outbox of one host.

Write-ahead log with synchronous=FULL: what was committed survives a power cut. Older versions of
the file are migrated, newer ones refused, a damaged file is never silently replaced. What is
deleted is overwritten. The file must lie on a local disk.

Backup: `sqlite3 jobs.db ".backup copy.db"` at any time, or a copy of the whole data folder while
nothing runs. Restoring is putting the copy in its place.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infinitetalk.errors import NotReady, StorageFull, StoreBusy, StoreCorrupt, Unavailable
from infinitetalk.jobs.damage import SIGNS, refuse_damaged
from infinitetalk.jobs.locks import UserLock
from infinitetalk.jobs.schema import MIGRATIONS, is_current, migrate
from infinitetalk.media.publish import NO_ROOM

BUSY_SECONDS = 5.0
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_OUT_OF_REACH = (
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
)


class Database:
    """One connection, used by many threads in turn.

    Args:
        busy_s: how long to wait for other processes.

    Raises:
        StoreBusy: another process holds the file for longer.
        StoreCorrupt: the file is damaged, or of a newer version.
        StorageFull, NotReady: it cannot be made or opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_s: float = BUSY_SECONDS,
        migrations: Sequence[str] = MIGRATIONS,
    ) -> None:
        self._lock = threading.RLock()
        with _reaching(path), ExitStack() as undo:
            self._users = UserLock(path.with_name(f"{path.name}.lock"))
            undo.callback(self._users.close)
            is_alone = self._users.enter(busy_s)
            if is_alone:
                refuse_damaged(path)
            self._connection = _connect(path, busy_s, may_create=is_alone)
            undo.callback(self._connection.close)
            self._set_up(migrations)
            self._users.let_others_in()
            undo.pop_all()

    def _set_up(self, migrations: Sequence[str]) -> None:
        if is_current(self._connection, migrations):
            return
        with self.writing() as connection:
            migrate(connection, migrations)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees no other writer; committed at the end, undone on an error."""
        with self._lock, _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has undone it already
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock, _translated():
            return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._users.close()


def _connect(path: Path, busy_s: float, *, may_create: bool) -> sqlite3.Connection:
    mode = "rwc" if may_create else "rw"  # who is not alone must find the file of the others
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    try:
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise NotReady("The job store must lie on a local disk.")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _reaching(path: Path) -> Iterator[None]:
    """What can go wrong on the way to the file, as our errors."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _translated():
            yield
    except TimeoutError as error:
        raise _busy() from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room() from error
        raise NotReady("The job store cannot be reached.") from error


@contextmanager
def _translated() -> Iterator[None]:
    """SQLite's errors as ours; what is left is a mistake in a call of ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (problem := _problem(getattr(error, "sqlite_errorcode", None))) is None:
            raise
        raise problem from error


def _problem(code: int | None) -> Unavailable | None:
    """What an error code of SQLite means to a caller; errors without one are not SQLite's."""
    if code is None:
        return None
    kind = code & 0xFF  # the rest tells more of the same kind
    if kind in _BUSY:
        return _busy()
    if code in _NO_ROOM:
        return _no_room()
    if kind in SIGNS:
        return StoreCorrupt("The job store is damaged.")
    return NotReady("The job store cannot be reached.") if kind in _OUT_OF_REACH else None


def _busy() -> Unavailable:
    return StoreBusy("The job store is busy, try again.", retry_after_s=1.0)


def _no_room() -> Unavailable:
    return StorageFull("The disk has no room for the job store.")
