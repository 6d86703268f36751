"""What engines say of themselves."""

import json
from dataclasses import replace

from infinitetalk.jobs.database import Database
from infinitetalk.jobs.engines import Engine, EngineState, SqliteEngineBoard
from tests.jobs.records import NOW


def test_the_last_word_of_every_slot_is_kept(database: Database) -> None:
    board = SqliteEngineBoard(database)
    assert board.all() == []
    loading = Engine("0", EngineState.LOADING, 10, NOW, "tiny")
    ready = Engine("0", EngineState.READY, 10, NOW + 1, "tiny", "NVIDIA L40S", "sdpa")
    able = replace(ready, resolutions=("480p", "720p"), speakers=1)
    broken = Engine("1", EngineState.FAILED, 11, NOW, "tiny", error="worker_lost")
    for engine in (loading, broken, ready, able):
        board.post(engine)
    assert SqliteEngineBoard(database).all() == [able, broken]


def test_the_word_of_an_engine_of_an_earlier_version_is_understood(database: Database) -> None:
    record = {"slot": "0", "state": "stopped", "pid": 10, "since": NOW, "preset": "tiny"}
    with database.writing() as connection:
        connection.execute("INSERT INTO engines VALUES (?, ?)", ("0", json.dumps(record)))
    assert SqliteEngineBoard(database).all() == [Engine("0", EngineState.STOPPED, 10, NOW, "tiny")]
