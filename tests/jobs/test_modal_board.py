"""Deliveries and engines of a fleet: the real client against a control plane on loopback."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import modal
import pytest
from grpclib import Status as Rpc

from infinitetalk.errors import StoreBusy
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.modal_board import AT_ONCE, ENTRY_S, FAILED_S, ModalEngineBoard, ModalOutbox
from infinitetalk.jobs.modal_store import ModalJobStore
from infinitetalk.jobs.outbox import Kind
from infinitetalk.jobs.retention import erased
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.contract import ended, put
from tests.jobs.contract_board import URL, OutboxContract, only
from tests.jobs.dicts import Dicts
from tests.jobs.records import ENOUGH, NOW, FakeClock, a_job
from tests.modal_control_plane.plane import ControlPlane


@pytest.fixture
def store(dicts: Dicts) -> ModalJobStore:
    return dicts.fleet().store()


@pytest.fixture
def deliveries(dicts: Dicts) -> modal.Dict:
    return dicts.make()


@pytest.fixture
def outbox(deliveries: modal.Dict, store: ModalJobStore) -> ModalOutbox:
    return ModalOutbox(deliveries, store)


class TestModalOutbox(OutboxContract):
    @pytest.fixture
    def written(self, deliveries: modal.Dict) -> Callable[[], str]:
        return lambda: str(dict(deliveries.items()))


def test_nothing_is_due_for_a_job_that_came_since_the_last_look_at_open_jobs(
    dicts: Dicts, deliveries: modal.Dict
) -> None:
    fleet = dicts.fleet()
    store = fleet.store(clock=lambda: 0, open_s=1.0)
    outbox = ModalOutbox(deliveries, store)
    assert store.find() == []
    job = fleet.store().add(a_job(), limit=ENOUGH)
    outbox.promise(job.id, Kind.WEBHOOK, URL)
    assert outbox.due(NOW) == []


def test_what_was_forgotten_while_it_was_brought_out_stays_forgotten(
    outbox: ModalOutbox, store: ModalJobStore
) -> None:
    job = ended(store)
    outbox.promise(job.id, Kind.WEBHOOK, URL)
    delivery = only(outbox, NOW)
    outbox.forget([job.id])
    outbox.failed(delivery, NOW)
    outbox.delivered(delivery)
    assert outbox.states(job.id) == {}


def test_what_is_owed_for_an_erased_job_has_a_job(
    outbox: ModalOutbox, store: ModalJobStore
) -> None:
    job = ended(store)
    put(store, job, erased(job, NOW))
    outbox.promise(job.id, Kind.WEBHOOK, URL)
    assert outbox.orphans() == set()


def test_no_job_is_asked_for_that_nothing_is_due_for(
    plane: ControlPlane, outbox: ModalOutbox, store: ModalJobStore
) -> None:
    """Two requests, however many jobs have not ended or were delivered for."""
    over = ended(store)
    for job in (over, *(store.add(a_job(), limit=ENOUGH) for _ in range(3))):
        outbox.promise(job.id, Kind.UPLOAD, URL)
    outbox.delivered(only(outbox, NOW))
    before = len(plane.requests)
    assert outbox.due(NOW) == []
    assert [rpc for rpc, _ in plane.requests[before:]] == ["DictContents", "DictContents"]


def test_those_that_wait_longest_come_first_and_not_too_many(
    deliveries: modal.Dict, tmp_path: Path
) -> None:
    """Any store of jobs will do."""
    with closing(Database(tmp_path / "jobs.db")) as database:
        store = SqliteJobStore(database)
        outbox = ModalOutbox(deliveries, store)
        late = ended(store).id
        outbox.promise(late, Kind.WEBHOOK, URL)
        owed = deliveries[late]
        outbox.failed(only(outbox, NOW), NOW)
        deliveries.update({ended(store).id: owed for _ in range(AT_ONCE - 1)})
        found = [one.job_id for one in outbox.due(NOW + 60)]
        assert (len(found), found[-1]) == (AT_ONCE, late)
        deliveries.put(ended(store).id, owed)
        found = [one.job_id for one in outbox.due(NOW + 60)]
        assert len(found) == AT_ONCE
        assert late not in found


def an_engine(slot: str = "ta-1", state: EngineState = EngineState.READY) -> Engine:
    return Engine(slot, state, 10, NOW, "tiny", "NVIDIA L40S", "sdpa", ("480p", "720p"), 1)


@pytest.fixture
def engines(dicts: Dicts) -> modal.Dict:
    return dicts.make()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(engines: modal.Dict, clock: FakeClock) -> ModalEngineBoard:
    return ModalEngineBoard(engines, clock)


def test_the_last_word_of_every_container_is_kept(board: ModalEngineBoard) -> None:
    assert board.all() == []
    other = an_engine("ta-0")
    for engine in (an_engine(state=EngineState.LOADING), other, an_engine()):
        board.post(engine)
    assert board.all() == [other, an_engine()]
    board.remove("ta-1")
    assert board.all() == [other]
    board.remove("ta-1")


@pytest.mark.parametrize(
    ("state", "counts_s"), [(EngineState.READY, ENTRY_S), (EngineState.FAILED, FAILED_S)]
)
def test_a_word_counts_for_some_time(
    board: ModalEngineBoard, clock: FakeClock, state: EngineState, counts_s: float
) -> None:
    """A killed container takes nothing back, and a mended deployment is soon taken for one."""
    engine = an_engine(state=state)
    board.post(engine)
    clock.now += counts_s - 1
    assert board.all() == [engine]
    board.post(engine)
    clock.now += counts_s - 1
    assert board.all() == [engine]
    clock.now += 1
    assert board.all() == []


def test_what_does_not_count_any_more_is_cleaned_away(
    board: ModalEngineBoard, engines: modal.Dict, clock: FakeClock
) -> None:
    board.post(an_engine("ta-0", EngineState.FAILED))
    board.post(an_engine("ta-1"))
    clock.now += FAILED_S
    board.clean()
    assert list(engines.keys()) == ["ta-1"]


def test_the_word_of_an_engine_of_an_earlier_version_is_understood(
    board: ModalEngineBoard, engines: modal.Dict
) -> None:
    record = {"slot": "ta-0", "state": "stopped", "pid": 10, "since": NOW, "preset": "tiny"}
    engines["ta-0"] = (NOW, json.dumps(record))
    assert board.all() == [Engine("ta-0", EngineState.STOPPED, 10, NOW, "tiny")]


def test_a_board_that_cannot_be_reached_is_busy(
    plane: ControlPlane, board: ModalEngineBoard, outbox: ModalOutbox
) -> None:
    plane.fail("DictUpdate", Rpc.RESOURCE_EXHAUSTED)
    with pytest.raises(StoreBusy):
        board.post(replace(an_engine(), pid=11))
    plane.fail("DictGet", Rpc.RESOURCE_EXHAUSTED)
    with pytest.raises(StoreBusy):
        outbox.states("a")
