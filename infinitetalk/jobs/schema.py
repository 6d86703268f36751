"""Tables of the job store. The file carries its version: how many of these scripts it has seen.

A released script is never changed; what comes next is appended.
"""

import sqlite3
from collections.abc import Sequence

from infinitetalk.errors import StoreCorrupt

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of the queue
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        idempotency_key TEXT,
        status TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        worker TEXT,
        created_at REAL NOT NULL,
        completed_at REAL,
        erased_at REAL,
        cost_usd REAL NOT NULL,
        record TEXT NOT NULL
    );
    CREATE INDEX jobs_by_status ON jobs (status, seq);
    CREATE INDEX jobs_by_day ON jobs (owner, created_at);
    CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        url TEXT,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        due_at REAL NOT NULL,
        UNIQUE (job_id, kind)
    );
    CREATE INDEX deliveries_by_state ON deliveries (state, due_at);
    CREATE TABLE tallies (
        what TEXT NOT NULL,
        kind TEXT NOT NULL,
        total REAL NOT NULL,
        PRIMARY KEY (what, kind)
    );
    CREATE TABLE engines (
        slot TEXT PRIMARY KEY,
        record TEXT NOT NULL
    );
    """,
)


def is_current(connection: sqlite3.Connection, migrations: Sequence[str]) -> bool:
    """Whether the file is of this version.

    Raises:
        StoreCorrupt: it is of a newer one.
    """
    version = _version(connection)
    if version > len(migrations):
        raise StoreCorrupt("The job store was written by a newer version of InfiniteTalk.")
    return version == len(migrations)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Bring an older file to this version, inside the caller's transaction."""
    for script in migrations[_version(connection) :]:
        for statement in script.split(";\n"):  # executescript would commit in between
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
