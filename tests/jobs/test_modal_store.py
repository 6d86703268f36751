"""The job store of a fleet: the contract, with the real client against a control plane on loopback;
containers that are killed or interfere at every request; and how many requests that takes.
"""

import importlib
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, cast

import modal
import pytest
from grpclib import Status as Rpc

from infinitetalk.errors import JobNotFound, StoreBusy, StoreCorrupt
from infinitetalk.jobs.modal_store import ModalJobStore
from infinitetalk.jobs.modal_tally import ModalTallies
from infinitetalk.jobs.model import Job, Status, cancel, complete, hand_back, job_from_json, start
from infinitetalk.jobs.retention import erased
from tests.jobs.contract import USAGE, JobStoreContract, ended, leased, put
from tests.jobs.dicts import Dicts, Fleet, Moment, Watched
from tests.jobs.killed import Killed, kill
from tests.jobs.records import ENOUGH, NOW, SPEC, STEP, VIDEO, FakeClock, a_job
from tests.modal_control_plane.plane import ControlPlane

SECOND = 10**9
KEYED = {"idempotency_key": "a telling key", "fingerprint": "telling too"}


@pytest.fixture
def fleet(dicts: Dicts) -> Fleet:
    return dicts.fleet()


class Nanoseconds(FakeClock):
    """The same clock as the store wants it."""

    def __call__(self) -> int:  # type: ignore[override]
        return int(self.now * SECOND)


class TestModalJobStore(JobStoreContract):
    """With copies as old as they may be: a container's own changes are in them."""

    @pytest.fixture
    def store(self, fleet: Fleet) -> ModalJobStore:
        return fleet.store(open_s=1.0, ended_s=10.0)


class Alternating:
    """Every call goes to another container than the call before."""

    def __init__(self, *stores: ModalJobStore) -> None:
        self._stores = stores
        self._calls = count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores[next(self._calls) % len(self._stores)], name)


class TestTwoContainers(JobStoreContract):
    """As one store, when they look at the Dicts themselves."""

    @pytest.fixture
    def store(self, fleet: Fleet) -> Alternating:
        return Alternating(fleet.store(), fleet.store())


@dataclass(frozen=True, slots=True)
class Action:
    """Something one container does to the rows, after others did something."""

    prepare: Callable[[ModalJobStore], Job]
    act: Callable[[ModalJobStore, Job], object]


def done(store: ModalJobStore) -> Job:
    job = leased(store, store.add(a_job(**KEYED), limit=ENOUGH))
    assert store.report(job, STEP, USAGE)
    return put(store, job, complete(job, VIDEO, USAGE, NOW))


def gone(store: ModalJobStore) -> Job:
    job = done(store)
    return put(store, job, erased(job, NOW))


def waiting(store: ModalJobStore) -> Job:
    return store.add(a_job(**KEYED), limit=ENOUGH)


def running(store: ModalJobStore) -> Job:
    return leased(store, waiting(store))


ACTIONS = {
    "add with a key": Action(
        lambda _: a_job(**KEYED), lambda store, job: store.add(job, limit=ENOUGH)
    ),
    "start": Action(waiting, lambda store, job: store.replace(job, start(job, "w", NOW))),
    "complete": Action(
        running, lambda store, job: store.replace(job, complete(job, VIDEO, USAGE, NOW))
    ),
    "cancel": Action(waiting, lambda store, job: store.replace(job, cancel(job, NOW))),
    "erase": Action(done, lambda store, job: store.replace(job, erased(job, NOW))),
    "forget": Action(gone, lambda store, _: store.forget(NOW + 1)),
}


FREED = Action(lambda store: gone(store) and a_job(**KEYED), ACTIONS["add with a key"].act)


def known(fleet: Fleet, job: Job) -> Job | None:
    """What there is of it, but its name."""
    try:
        return replace(fleet.store().get(job.id), id="")
    except JobNotFound:
        return None


def is_in_line(fleet: Fleet) -> bool:
    """Whether the index holds the head of every chain once, and nothing else but the tombstones
    of jobs that are being forgotten.
    """
    chains, opened, over = (
        dict(entries.items()) for entries in (fleet.jobs, fleet.open, fleet.ended)
    )
    reports = {key.removesuffix("~") for key in opened if "~" in key}
    noted = {key: value for key, value in {**opened, **over}.items() if "~" not in key}
    heads = {
        job_id: chains.get(f"{job_id}#{revision}", ("", seq, record))[1:] == (seq, record)
        and f"{job_id}#{revision + 1}" not in chains
        for job_id, (seq, revision, record) in noted.items()
    }
    begun = {key.split("#")[0] for key in chains if "#" in key}
    forgotten = {job_id for job_id in over if job_from_json(over[job_id][2]).erased_at == NOW}
    is_once = not opened.keys() & over.keys() and reports <= opened.keys()
    return is_once and all(heads.values()) and begun <= noted.keys() <= begun | forgotten


def run(action: Action, fleet: Fleet, moment: Moment, job: Job) -> bool:
    """Whether it came to its end."""
    try:
        action.act(fleet.store(moment), job)
    except Killed:
        return False
    return True


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_a_container_may_be_killed_at_any_request(dicts: Dicts, action: Action) -> None:
    """The job is as before or as afterwards, and what was not done can be done again."""
    undisturbed = dicts.fleet()
    job = action.prepare(undisturbed.store())
    before = known(undisturbed, job)
    action.act(undisturbed.store(), job)
    after = known(undisturbed, job)
    assert is_in_line(undisturbed)
    for number, fleet in enumerate(dicts.fleets()):
        job = action.prepare(fleet.store())
        has_ended = run(action, fleet, Moment(number, kill), job)
        now = known(fleet, job)
        assert now in (before, after)
        if before is not None and after is not None and after.erased_at is None:
            assert [found.id for found in fleet.store().find()] == [job.id]
        fleet.store().repair()
        assert is_in_line(fleet)
        if now == before and now is not None:
            action.act(fleet.store(), job)
        assert now is None or known(fleet, job) == after
        if has_ended:
            break
    assert number > 1


@pytest.mark.parametrize(
    ("name", "is_repaired"),
    [("add with a key", True), ("add with a key", False), ("add with a freed key", False)],
)
def test_a_request_with_a_key_whose_container_was_killed_can_be_sent_again(
    dicts: Dicts, name: str, is_repaired: bool
) -> None:
    """One job comes of it, and nothing blocks its key."""
    action = {**ACTIONS, "add with a freed key": FREED}[name]
    for number, fleet in enumerate(dicts.fleets()):
        job = action.prepare(fleet.store())
        has_ended = run(action, fleet, Moment(number, kill), job)
        if is_repaired:
            fleet.store().repair()
        again = fleet.store().add(replace(job, id=a_job().id), limit=ENOUGH)
        fleet.store().repair()
        assert fleet.store().find() == [again]
        assert is_in_line(fleet)
        if has_ended:
            break
    assert number > 2


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_repair_may_run_at_any_request_of_another_container(dicts: Dicts, action: Action) -> None:
    for number, fleet in enumerate(dicts.fleets()):
        job = action.prepare(fleet.store())
        moment = Moment(number, fleet.store().repair)
        action.act(fleet.store(moment), job)
        fleet.store().repair()
        assert is_in_line(fleet)
        if not moment.came:
            break


def test_a_freed_key_belongs_to_its_next_job_and_is_freed_again(fleet: Fleet) -> None:
    store = fleet.store()
    for _ in range(3):
        gone(store)
        assert not store.has_key("", KEYED["idempotency_key"])
    job = waiting(store)
    assert store.has_key("", KEYED["idempotency_key"])
    assert waiting(fleet.store()) == job


def test_repair_removes_what_is_noted_of_a_job_without_a_chain(fleet: Fleet) -> None:
    """A chain may be dropped by one process while another notes it."""
    store = fleet.store()
    job = leased(store)
    store.report(job, STEP, USAGE)
    kept = leased(store)
    store.report(kept, STEP, USAGE)
    for number in range(2):
        fleet.jobs.pop(f"{job.id}#{number}")
    store.repair()
    assert set(fleet.open.keys()) == {kept.id, f"{kept.id}~"}


def start_all(store: ModalJobStore) -> None:
    store.repair()
    for job in store.find(Status.PENDING):
        put(store, job, start(job, "w", NOW))


def test_a_job_may_run_before_its_request_is_through(dicts: Dicts) -> None:
    """Repair lets it in, and what the request notes of it afterwards is older."""
    for number, fleet in enumerate(dicts.fleets()):
        moment = Moment(number, partial(start_all, fleet.store()))
        job = waiting(fleet.store(moment))
        assert is_in_line(fleet)
        if not moment.came:
            break
    assert fleet.store().get(job.id) == job
    assert number > 2


def test_a_report_is_over_with_its_attempt(fleet: Fleet) -> None:
    store = fleet.store()
    first = running(store)
    assert store.report(first, STEP, USAGE)
    second = leased(store, put(store, first, hand_back(first)))
    assert store.get(first.id) == second
    assert store.find() == [second]


def change(store: ModalJobStore, job: Job, new: Job, won: list[bool]) -> None:
    won.append(store.replace(job, new))


@pytest.mark.parametrize(
    ("first", "rival"), [("start", "start"), ("start", "cancel"), ("cancel", "cancel")]
)
def test_of_two_containers_that_change_a_job_one_succeeds(
    dicts: Dicts, first: str, rival: str
) -> None:
    """Whenever the one comes in between."""
    for number, fleet in enumerate(dicts.fleets()):
        job = waiting(fleet.store())
        changes = {"start": start(job, first, NOW), "cancel": cancel(job, NOW + 1)}
        won: list[bool] = []
        rivals = {"start": start(job, "rival", NOW), "cancel": cancel(job, NOW)}
        moment = Moment(number, partial(change, fleet.store(), job, rivals[rival], won))
        change(fleet.store(moment), job, changes[first], won)
        assert won.count(True) == 1
        fleet.store().repair()
        assert is_in_line(fleet)
        if not moment.came:
            break
    assert number > 2


def ask(store: ModalJobStore, answers: list[Job]) -> None:
    answers.append(waiting(store))


def test_two_requests_with_one_key_are_one_job_whenever_the_other_comes(dicts: Dicts) -> None:
    for number, fleet in enumerate(dicts.fleets()):
        answers: list[Job] = []
        moment = Moment(number, partial(ask, fleet.store(), answers))
        ask(fleet.store(moment), answers)
        assert len({job.id for job in answers}) == 1
        assert fleet.store().find() == answers[:1]
        assert is_in_line(fleet)
        if not moment.came:
            break
    assert number > 3


def test_requests_are_few(plane: ControlPlane, fleet: Fleet) -> None:
    """Each takes 10 to 20 ms, and `is_current` is asked at every denoising step."""
    store = fleet.store(open_s=60.0, ended_s=60.0)

    def requests(call: Callable[[], object]) -> int:
        before = len(plane.requests)
        call()
        return len(plane.requests) - before

    store.find()
    job = a_job()
    assert requests(lambda: store.add(job, limit=ENOUGH)) == 2
    assert requests(lambda: store.get(job.id)) == 1
    assert requests(lambda: fleet.store().get(job.id)) == 2
    held = start(job, "w", NOW)
    assert requests(lambda: store.replace(job, held)) == 2
    assert requests(lambda: store.is_current(held)) == 1
    assert requests(lambda: store.report(held, STEP, USAGE)) == 2
    assert requests(lambda: store.get(job.id)) == 2
    assert requests(lambda: fleet.store().get(job.id)) == 3
    done = complete(held, VIDEO, USAGE, NOW)
    assert requests(lambda: store.replace(held, done)) == 4
    assert requests(lambda: store.get(job.id)) == 3
    assert requests(store.find) == 0


def test_a_look_at_many_jobs_is_repeated_only_when_it_is_old(
    plane: ControlPlane, fleet: Fleet
) -> None:
    """And sees what its own container did at once."""
    clock = Nanoseconds()
    store, other = fleet.store(clock=clock, open_s=1.0, ended_s=10.0), fleet.store()
    mine = store.add(a_job(), limit=ENOUGH)
    assert store.find() == [mine]
    theirs = other.add(a_job(), limit=ENOUGH)
    before = len(plane.requests)
    assert (store.find(), store.counts(Status.PENDING)) == ([mine], {Status.PENDING: 1})
    assert len(plane.requests) == before
    own = store.add(a_job(), limit=ENOUGH)
    assert store.find() == [mine, own]
    clock.now += 1.0
    assert {job.id for job in store.find()} == {mine.id, theirs.id, own.id}


def test_a_record_that_stayed_as_it_was_is_not_parsed_again(fleet: Fleet) -> None:
    """That would take most of the time of a look."""
    store = fleet.store()
    store.add(a_job(), limit=ENOUGH)
    (first,), (second,) = store.find(), store.find()
    assert second is first


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_job_that_ended_in_another_container_is_always_seen_somewhere(
    fleet: Fleet, seconds: float
) -> None:
    clock = Nanoseconds()
    store, other = fleet.store(clock=clock, open_s=1.0, ended_s=10.0), fleet.store()
    job = store.add(a_job(), limit=ENOUGH)
    assert store.find() == [job]
    put(other, job, cancel(job, NOW))
    clock.now += seconds
    assert [found.id for found in store.find()] == [job.id]
    assert sum(store.counts().values()) == 1


def test_jobs_of_one_moment_keep_the_order_in_which_they_came(fleet: Fleet) -> None:
    store = fleet.store(clock=Nanoseconds())
    jobs = [store.add(a_job(id=f"{9 - n}" * 32), limit=ENOUGH) for n in range(5)]
    back = leased(store, jobs[0])
    jobs[0] = put(store, back, hand_back(back))
    assert fleet.store().find() == jobs


RPCS = ("DictGet", "DictUpdate", "DictPop", "DictContents")
FAULTS = (Rpc.RESOURCE_EXHAUSTED, Rpc.ABORTED)  # the client repeats others, for most of a second


@pytest.mark.parametrize("rpc", RPCS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_modal_cannot_do_now_is_busy_or_done_later(
    plane: ControlPlane, fleet: Fleet, rpc: str, fault: Rpc
) -> None:
    """A change is over once its revision is written; the rest of it may fail."""
    store = fleet.store()
    job = waiting(store)
    plane.fail(rpc, fault)
    calls = {
        "DictGet": lambda: store.get(job.id),
        "DictUpdate": lambda: store.replace(job, cancel(job, NOW)),
        "DictPop": lambda: store.replace(job, cancel(job, NOW)),
        "DictContents": store.find,
    }
    if rpc == "DictPop":
        assert calls[rpc]()
        assert set(fleet.open.keys()) == {job.id}
        store.repair()
    else:
        with pytest.raises(StoreBusy) as busy:
            calls[rpc]()
        assert busy.value.retryable
        calls[rpc]()
    assert is_in_line(fleet)


class Deaf:
    """A Dict that does what it is asked, and whose first answer to a `put` does not arrive."""

    def __init__(self, entries: modal.Dict) -> None:
        self._entries = entries
        self._hears = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entries, name)

    def put(self, *arguments: Any, **options: Any) -> bool:
        answer = self._entries.put(*arguments, **options)
        if not self._hears:
            self._hears = True
            raise modal.exception.ServiceError("the answer was lost")
        return answer


def test_a_change_whose_answer_was_lost_is_known_for_ones_own(fleet: Fleet) -> None:
    """The client itself repeats requests: the second one finds the entry of the first."""
    job = waiting(fleet.store())
    store = replace(fleet, jobs=cast(Any, Deaf(fleet.jobs))).store()
    with pytest.raises(StoreBusy):
        store.replace(job, cancel(job, NOW))
    assert store.replace(job, cancel(job, NOW))
    assert not store.replace(job, cancel(job, NOW))
    assert is_in_line(fleet)


def test_the_same_change_by_two_containers_is_the_change_of_one(fleet: Fleet) -> None:
    job = waiting(fleet.store())
    containers = [fleet.store() for _ in range(2)]
    assert [store.get(job.id) for store in containers] == [job, job]
    assert [store.replace(job, cancel(job, NOW)) for store in containers] == [True, False]


def test_a_container_that_saw_a_job_wait_finds_its_tombstone(fleet: Fleet) -> None:
    """Past the revisions whose words are erased."""
    store, other = fleet.store(), fleet.store()
    job = waiting(store)
    end = put(other, job, cancel(job, NOW))
    tombstone = put(other, end, erased(end, NOW))
    assert not store.replace(job, start(job, "w", NOW))
    assert store.get(job.id) == tombstone


def test_nothing_of_an_erased_request_stays(fleet: Fleet) -> None:
    spec = replace(SPEC, prompt="a wish nobody may know", negative_prompt="a fear")
    store = fleet.store()
    job = leased(store, store.add(a_job(spec=spec, **KEYED), limit=ENOUGH))
    store.report(job, STEP, USAGE)
    job = put(store, job, cancel(job, NOW))
    assert "a wish nobody may know" in fleet.content()
    put(store, job, erased(job, NOW))
    content = fleet.content()
    assert job.id in content
    for secret in (spec.prompt, spec.negative_prompt, *KEYED.values()):
        assert secret not in content


def test_repair_reads_once_a_day_what_modal_would_drop_unread(
    plane: ControlPlane, fleet: Fleet
) -> None:
    clock = Nanoseconds()
    store = fleet.store(clock=clock)
    gone(store)
    store.forget(NOW + 1)
    jobs = [waiting(store), ended(store, idempotency_key="another"), leased(store)]
    entries = {f"{job.id}#{int(job.status is not Status.PENDING)}" for job in jobs}
    entries |= {job.id for job in jobs} | {"totals"}

    def read() -> set[str]:
        before = len(plane.requests)
        store.repair()
        asked = [message for rpc, message in plane.requests[before:] if rpc == "DictGet"]
        return {pickle.loads(message.key) for message in asked}

    first, second = read(), read()
    clock.now += 86400.0
    third = read()
    assert entries <= first
    assert entries <= third
    assert sum(key.startswith("key:") for key in third) >= 2
    assert second == {"read"}


def test_values_need_no_class_of_ours_to_be_read(plane: ControlPlane, fleet: Fleet) -> None:
    """Another version of the service reads them."""
    before = len(plane.requests)
    store = fleet.store()
    gone(store)
    store.forget(NOW + 1)
    running(store)
    store.repair()
    updates = [message for rpc, message in plane.requests[before:] if rpc == "DictUpdate"]
    values = [entry.value for message in updates for entry in message.updates]
    names = {operation.name for value in values for operation, *_ in pickletools.genops(value)}
    assert names.isdisjoint({"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ"})
    assert len(values) > 10


class Unreadable:
    """Pickled by a version of ours that had a module which is gone."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("infinitetalk.gone",)


DAMAGED = {
    "text": "junk",
    "short": ("writer", 1),
    "no JSON": ("writer", 1, "{"),
    "no record": ("writer", 1, "{}"),
    "not to be unpickled": Unreadable(),
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED)
def test_a_record_that_cannot_be_read_is_store_corrupt(fleet: Fleet, value: object) -> None:
    job = waiting(fleet.store())
    fleet.jobs.put(f"{job.id}#1", value)
    with pytest.raises(StoreCorrupt):
        fleet.store().get(job.id)
    fleet.open.put(job.id, value)
    with pytest.raises(StoreCorrupt):
        fleet.store().find()


def test_totals_never_fall_and_count_every_end_once_whenever_forgetting_is_killed(
    dicts: Dicts,
) -> None:
    for number, fleet in enumerate(dicts.fleets()):
        gone(fleet.store())
        done(fleet.store())
        leased(fleet.store())
        tallies = ModalTallies(fleet.jobs, fleet.store().ended)
        before = tallies.totals()
        has_ended = run(ACTIONS["forget"], fleet, Moment(number, kill), a_job())
        assert tallies.totals() == before
        fleet.store().forget(NOW + 1)
        assert tallies.totals() == before
        if has_ended:
            break
    assert before["jobs", "completed"] == 2
    assert before["gpu_seconds", ""] == pytest.approx(2 * USAGE.gpu_seconds)
    assert number > 4


def test_totals_go_on_from_what_was_forgotten(fleet: Fleet) -> None:
    store = fleet.store()
    tallies = ModalTallies(fleet.jobs, store.ended)
    assert tallies.totals() == {}
    for number in range(1, 4):
        gone(store)
        store.forget(NOW + 1)
        assert tallies.totals()["jobs", "completed"] == number
    assert store.ended() == []


def test_totals_do_not_fall_by_what_is_forgotten_while_they_are_added_up(fleet: Fleet) -> None:
    store = fleet.store()
    gone(store)
    moment = Moment(1, lambda: store.forget(NOW + 1))
    watched = fleet.store(moment)
    tallies = ModalTallies(cast(Any, Watched(fleet.jobs, moment)), watched.ended)
    assert tallies.totals()["jobs", "completed"] == 1
    assert moment.came
