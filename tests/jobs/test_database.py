"""The SQLite file: durable, versioned, and never replaced without a word."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from infinitetalk.errors import NotReady, StoreBusy, StoreCorrupt
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.schema import MIGRATIONS
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.records import ENOUGH, a_job

LATER = (*MIGRATIONS, "CREATE TABLE later (x TEXT);\nINSERT INTO later SELECT id FROM jobs;\n")
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@contextmanager
def opened(path: Path, **options: object) -> Iterator[Database]:
    database = Database(path, **options)  # type: ignore[arg-type]
    try:
        yield database
    finally:
        database.close()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process, as far as SQLite can tell, in the middle of writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")


def fill(path: Path, count: int = 50) -> list[str]:
    """Jobs in a new store; their ids."""
    with opened(path) as database:
        store = SqliteJobStore(database)
        return [store.add(a_job(), limit=ENOUGH).id for _ in range(count)]


def ids(database: Database) -> list[str]:
    return [job.id for job in SqliteJobStore(database).find()]


def value(database: Database, pragma: str) -> object:
    return database.read(f"PRAGMA {pragma}")[0][0]


def moved(path: Path) -> list[Path]:
    return sorted(path.parent.glob("jobs.db.damaged-*"))


def test_what_is_committed_survives_a_power_cut(path: Path) -> None:
    """As far as SQLite's settings promise it."""
    with opened(path) as database:
        assert value(database, "journal_mode") == "wal"
        assert value(database, "synchronous") == 2  # FULL


def test_an_undone_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(KeyError), database.writing() as connection:
        connection.execute("INSERT INTO engines VALUES ('0', '{}')")
        raise KeyError
    assert database.read("SELECT * FROM engines") == []
    with database.writing() as connection:  # and the next one works
        connection.execute("INSERT INTO engines VALUES ('0', '{}')")


# versions


def test_a_file_from_before_the_first_version_is_migrated(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (0,)
        old.execute("CREATE TABLE of_the_operator (x)")
        old.commit()
    with opened(path) as database:
        assert value(database, "user_version") == len(MIGRATIONS)
        SqliteJobStore(database).add(a_job(), limit=ENOUGH)


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_rows_of_every_older_version_are_kept(path: Path, version: int) -> None:
    with opened(path, migrations=MIGRATIONS[:version]) as database:
        known = [] if version == 0 else [SqliteJobStore(database).add(a_job(), limit=1).id]
    with opened(path, migrations=LATER) as database:
        assert value(database, "user_version") == len(LATER)
        assert ids(database) == known
        assert [row["x"] for row in database.read("SELECT x FROM later")] == known


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with opened(path, migrations=LATER):
        pass
    content = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="newer version"):
        Database(path)
    assert path.read_bytes() == content
    assert not moved(path)


def test_a_migration_that_fails_is_undone_as_a_whole(path: Path) -> None:
    jobs = fill(path)
    broken = (*MIGRATIONS, "CREATE TABLE later (x);\nCREATE TABLE later (x);\n")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Database(path, migrations=broken)
    with opened(path) as database:
        assert ids(database) == jobs
        assert not database.read("SELECT * FROM sqlite_master WHERE name = 'later'")


# damage


def flip(path: Path) -> None:
    """Turn the bits of the second page, where a table begins."""
    content = bytearray(path.read_bytes())
    content[PAGE : PAGE + 64] = bytes(byte ^ 0xFF for byte in content[PAGE : PAGE + 64])
    path.write_bytes(content)


def replace_by_text(path: Path) -> None:
    path.write_text("This was a database once. " * 1000)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = [flip, replace_by_text, cut]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_and_never_replaced(path: Path, damage: object) -> None:
    fill(path)
    damage(path)  # type: ignore[operator]
    content = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="moved aside"):
        Database(path)
    assert [part.read_bytes() for part in moved(path)] == [content]
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="Restore a backup"):
            Database(path)
    assert not path.exists()


def test_nothing_of_a_damaged_store_is_left_beside_the_backup(path: Path) -> None:
    """The log of a crash would be taken for the log of the backup that is put in its place."""
    fill(path)
    assert run(CRASH_IN_THE_MIDDLE, path) == 9
    assert path.with_name("jobs.db-wal").stat().st_size > 0
    path.write_bytes(b"no header" * 20 + path.read_bytes()[180:])
    with pytest.raises(StoreCorrupt):
        Database(path)
    left = {part.name for part in path.parent.iterdir()} - {part.name for part in moved(path)}
    assert left == {"jobs.db.lock"}


CRASH_IN_THE_MIDDLE = """
import os, sys, pathlib
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import start
from infinitetalk.jobs.store import SqliteJobStore
store = SqliteJobStore(Database(pathlib.Path(sys.argv[1])))
job = store.find()[0]
assert store.replace(job, start(job, "0", 0.0))
os._exit(9)
"""


def run(script: str, path: Path) -> int:
    """Run Python in another process; its exit code."""
    return subprocess.run([sys.executable, "-c", script, str(path)], timeout=60).returncode


def test_a_backup_put_in_its_place_works(path: Path, tmp_path: Path) -> None:
    """Copied by SQLite while the store is in use, as the documentation says."""
    with opened(path) as database:
        jobs = [SqliteJobStore(database).add(a_job(), limit=ENOUGH).id]
        copy = sqlite3.connect(tmp_path / "copy")
        with closing(sqlite3.connect(path)) as source, closing(copy):
            source.backup(copy)
    flip(path)
    with pytest.raises(StoreCorrupt):
        Database(path)
    shutil.copy(tmp_path / "copy", path)
    with opened(path) as database:
        assert ids(database) == jobs
    assert moved(path)


def test_an_empty_store_can_be_had_by_deleting_what_was_moved(path: Path) -> None:
    fill(path)
    flip(path)
    with pytest.raises(StoreCorrupt):
        Database(path)
    for part in moved(path):
        part.unlink()
    with opened(path) as database:
        assert ids(database) == []


FLIP = """
import sys, pathlib
from tests.jobs.test_database import flip
flip(pathlib.Path(sys.argv[1]))
"""


def test_a_file_in_use_is_not_moved_and_not_given_up(path: Path) -> None:
    """Who has it open goes on; the next one who is alone with it looks for damage."""
    jobs = fill(path, 1)
    with opened(path) as first:
        assert ids(first) == jobs  # its pages are in memory now
        # In another process: here, closing the file would free SQLite's locks on it.
        assert run(FLIP, path) == 0
        with opened(path) as second:
            with pytest.raises(StoreCorrupt):
                SqliteJobStore(second).add(a_job(), limit=ENOUGH)
            assert not moved(path)
    with pytest.raises(StoreCorrupt, match="moved aside"):
        Database(path)


def test_a_closed_database_is_a_mistake_of_ours_and_no_damage(path: Path) -> None:
    database = Database(path)
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.read("SELECT 1")
    assert path.exists() and not moved(path)


def test_a_file_taken_away_under_others_is_not_made_anew(path: Path) -> None:
    with opened(path):
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(NotReady):
            Database(path)
        assert not path.exists()


# other processes, and the disk


def test_a_writer_that_takes_too_long_is_store_busy(path: Path) -> None:
    with opened(path, busy_s=0.05) as database:
        with locked(path), pytest.raises(StoreBusy) as refused:
            SqliteJobStore(database).add(a_job(), limit=ENOUGH)
        assert refused.value.retry_after_s
        SqliteJobStore(database).add(a_job(), limit=ENOUGH)


def test_a_busy_store_is_read_and_opened_all_the_same(path: Path) -> None:
    jobs = fill(path, 1)
    with locked(path), opened(path, busy_s=0.05) as database:
        assert ids(database) == jobs


def test_one_who_prepares_the_file_for_too_long_makes_it_busy(path: Path) -> None:
    path.touch()
    with locked(path), pytest.raises(StoreBusy):
        Database(path, busy_s=0.05)


def test_many_processes_open_a_new_store_at_once(path: Path) -> None:
    script = "import sys, pathlib; from infinitetalk.jobs.database import Database; "
    script += "Database(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(path)]
    processes = [subprocess.Popen(command) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * len(processes)


def commit_loop(folder: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.jobs.commit_loop", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("count", [1, 40, 90])
def test_kill_9_loses_no_acknowledged_job(path: Path, count: int) -> None:
    with commit_loop(path.parent) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(count)]
        process.kill()
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
    with opened(path) as database:
        assert ids(database)[: len(told)] == told
        assert value(database, "integrity_check") == "ok"


def test_on_a_full_disk_earlier_jobs_stay_readable(path: Path) -> None:
    with commit_loop(path.parent, "2000000") as process:
        told, _ = process.communicate(timeout=60)
    *acknowledged, last = told.splitlines()
    assert len(acknowledged) > 50
    assert last == f"full {len(acknowledged)}"
    with opened(path) as database:
        assert ids(database) == acknowledged
        SqliteJobStore(database).add(a_job(), limit=ENOUGH)


def test_a_folder_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady):
        Database(tmp_path / "file" / "jobs.db")


def test_a_full_disk_at_the_start_is_storage_full(path: Path) -> None:
    assert run(OPEN_ON_A_FULL_DISK, path) == 0


OPEN_ON_A_FULL_DISK = """
import pathlib, resource, sys
from infinitetalk.errors import StorageFull
from infinitetalk.jobs.database import Database
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    Database(pathlib.Path(sys.argv[1]))
except StorageFull:
    sys.exit(0)
sys.exit(1)
"""
