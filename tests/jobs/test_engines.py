"""What engines say of themselves."""

from infinitetalk.jobs.database import Database
from infinitetalk.jobs.engines import Engine, EngineBoard, EngineState
from tests.jobs.records import NOW


def test_the_last_word_of_every_slot_is_kept(database: Database) -> None:
    board = EngineBoard(database)
    assert board.all() == []
    loading = Engine("0", EngineState.LOADING, 10, NOW, "tiny")
    ready = Engine("0", EngineState.READY, 10, NOW + 1, "tiny", "NVIDIA L40S", "sdpa")
    broken = Engine("1", EngineState.FAILED, 11, NOW, "tiny", error="worker_lost")
    for engine in (loading, broken, ready):
        board.post(engine)
    assert EngineBoard(database).all() == [ready, broken]
