"""The fleet's queue: when a job is called for, and what is done about calls that were lost."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from infinitetalk.errors import StoreBusy
from infinitetalk.jobs.modal_calls import Outcome
from infinitetalk.jobs.modal_queue import LET_GO_S, LOST, TOO_LONG, UNCALLED_S, ModalQueue
from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.model import (
    MAX_LOSSES,
    Job,
    Problem,
    Status,
    cancel,
    complete,
    hand_back,
    lose,
    start,
)
from tests.jobs.contract import put
from tests.jobs.dicts import Dicts, Fleet
from tests.jobs.records import ENOUGH, PROBLEM, VIDEO, FakeClock, a_job
from tests.jobs.scripted_calls import ScriptedCalls


class Site:
    """A fleet whose platform is scripted."""

    def __init__(self, fleet: Fleet, clock: FakeClock) -> None:
        self._fleet = fleet
        self.clock = clock
        self.calls = ScriptedCalls()
        self.store = fleet.store()
        self.queue = self.another_queue()

    def another_queue(self) -> ModalQueue:
        """That of another container."""
        store, numbers = self._fleet.store(), Table(self._fleet.jobs)
        return ModalQueue(store, numbers, self.calls, self.clock)

    def uncalled(self) -> Job:
        return self.store.add(a_job(created_at=self.clock.now), limit=ENOUGH)

    def waiting(self) -> Job:
        job = self.uncalled()
        self.queue.enqueue(job)
        return job

    def running(self) -> Job:
        job = self.waiting()
        return put(self.store, job, start(job, self.calls.of(job.id)[-1], self.clock.now))

    def canceled(self) -> Job:
        job = self.running()
        return put(self.store, job, cancel(job, self.clock.now))

    def row(self, job: Job) -> Job:
        return self.store.get(job.id)


@pytest.fixture
def site(dicts: Dicts, clock: FakeClock) -> Site:
    return Site(dicts.fleet(), clock)


Begin = Callable[[Site], Job]
OPEN = pytest.mark.parametrize("begin", [Site.waiting, Site.running], ids=["waiting", "running"])


# calling


def test_a_job_is_called_for_once_however_often_it_is_enqueued(site: Site) -> None:
    job = site.uncalled()
    for queue in (site.queue, site.queue, site.another_queue()):
        queue.enqueue(job)
    assert site.calls.of(job.id) == ["fc-1"]


def test_a_job_that_has_ended_is_not_called_for(site: Site) -> None:
    job = site.uncalled()
    site.queue.enqueue(put(site.store, job, cancel(job, site.clock.now)))
    assert site.calls.made == {}


def test_a_call_that_could_not_be_made_is_made_later_and_is_no_loss(site: Site) -> None:
    site.calls.is_reachable = False
    job = site.waiting()
    site.calls.is_reachable = True
    site.queue.tend()
    assert site.calls.made == {}, "whoever took it in may still be at it"
    site.clock.now += UNCALLED_S + 1
    for _ in range(2):
        site.queue.tend()
    assert (site.calls.of(job.id), site.row(job)) == (["fc-1"], job)


def test_jobs_wait_in_the_order_they_came(site: Site) -> None:
    jobs = [site.waiting(), site.running(), site.waiting(), site.uncalled(), site.canceled()]
    assert [site.queue.position(site.row(job)) for job in jobs] == [0, None, 1, 2, None]


def test_a_job_that_ended_meanwhile_has_no_place(site: Site) -> None:
    job = site.waiting()
    put(site.store, job, cancel(job, site.clock.now))
    assert site.queue.position(job) is None


def test_the_queue_is_as_old_as_the_first_job_that_waits(site: Site) -> None:
    assert site.queue.oldest_s() == 0.0
    site.running()
    site.clock.now += 5
    site.waiting()
    site.clock.now += 3
    site.waiting()
    assert site.queue.oldest_s() == 3.0
    site.clock.now -= 10
    assert site.queue.oldest_s() == 0.0, "by a clock that was turned back"


# taking back


def test_the_call_of_a_job_that_no_engine_has_begun_is_taken_back(site: Site) -> None:
    job = site.waiting()
    site.queue.withdraw(put(site.store, job, cancel(job, site.clock.now)))
    assert site.calls.stopped == [("fc-1", False)]


def test_an_engine_at_work_is_left_to_notice_by_itself(site: Site) -> None:
    site.queue.withdraw(site.canceled())
    assert site.calls.stopped == []


def test_a_call_that_was_handed_back_is_left_to_notice_by_itself(site: Site) -> None:
    job = site.running()
    back = put(site.store, job, hand_back(job))
    site.queue.withdraw(put(site.store, back, cancel(back, site.clock.now)))
    assert site.calls.stopped == []


def test_what_was_never_called_for_is_not_taken_back(site: Site) -> None:
    site.queue.withdraw(cancel(site.uncalled(), site.clock.now))
    assert site.calls.stopped == []


def test_a_platform_out_of_reach_does_not_keep_anybody_from_canceling(site: Site) -> None:
    job = site.waiting()
    site.calls.is_reachable = False
    site.queue.withdraw(cancel(job, site.clock.now))
    assert site.calls.stopped == []


# losses


@OPEN
def test_a_call_that_the_platform_means_to_run_is_left_alone(site: Site, begin: Begin) -> None:
    job = begin(site)
    site.clock.now += 86400
    site.queue.tend()
    assert (site.row(job), site.calls.of(job.id)) == (job, ["fc-1"])


@OPEN
@pytest.mark.parametrize("outcome", [Outcome.ENDED, Outcome.TIMED_OUT])
def test_a_call_that_ended_without_its_job_is_a_loss_and_made_again(
    site: Site, begin: Begin, outcome: Outcome
) -> None:
    job = begin(site)
    site.calls.end("fc-1", outcome)
    for _ in range(2):
        site.queue.tend()
    row = site.row(job)
    assert (row.status, row.losses, row.attempt) == (Status.PENDING, 1, job.attempt)
    assert (row.worker, site.calls.of(job.id)) == (None, ["fc-1", "fc-2"])


@OPEN
@pytest.mark.parametrize(
    ("outcome", "problem"), [(Outcome.ENDED, LOST), (Outcome.TIMED_OUT, TOO_LONG)]
)
def test_a_job_that_was_lost_too_often_fails(
    site: Site, begin: Begin, outcome: Outcome, problem: Problem, caplog: pytest.LogCaptureFixture
) -> None:
    job = begin(site)
    with caplog.at_level(logging.INFO):
        for _ in range(MAX_LOSSES + 1):
            site.calls.end(site.calls.of(job.id)[-1], outcome)
            site.queue.tend()
    row = site.row(job)
    assert (row.status, row.error, row.completed_at) == (Status.FAILED, problem, site.clock.now)
    assert problem.code == "worker_lost"
    assert len(site.calls.of(job.id)) == MAX_LOSSES
    (line,) = (r.message for r in caplog.records if "job.finished" in r.message)
    assert (json.loads(line)["job_id"], json.loads(line)["code"]) == (job.id, "worker_lost")


@OPEN
def test_two_who_see_the_same_loss_count_it_once(site: Site, begin: Begin) -> None:
    job = begin(site)
    site.calls.end("fc-1")
    both_look = Barrier(2)
    site.calls.when_asked = lambda call_id: both_look.wait(30)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(site.another_queue().tend) for _ in range(2)]:
            done.result()
    row = site.row(job)
    assert (row.status, row.losses) == (Status.PENDING, 1)
    assert 2 <= len(site.calls.of(job.id)) <= 3, "a call too many leaves the job to the other"


def test_the_call_that_counts_is_that_of_the_engine_at_work(site: Site) -> None:
    """A second one, made by mistake, finds the job taken and ends."""
    job = site.running()
    site.queue.call_again(job)
    site.calls.end("fc-2")
    site.queue.tend()
    assert (site.row(job), len(site.calls.made)) == (job, 2)
    site.calls.end("fc-1")
    site.queue.tend()
    assert (site.row(job).losses, len(site.calls.made)) == (1, 3)


def test_an_engine_that_calls_again_and_leaves_is_no_loss(site: Site) -> None:
    """Between the look at the number and the question what became of it."""
    job = site.running()
    back = put(site.store, job, lose(job, PROBLEM, site.clock.now))

    def leave(call_id: str) -> None:
        site.calls.when_asked = lambda _: None
        site.another_queue().call_again(back)
        site.calls.end(call_id)

    site.calls.when_asked = leave
    site.queue.tend()
    assert (site.row(job), site.calls.of(job.id)) == (back, ["fc-1", "fc-2"])


def test_a_job_that_ended_as_its_call_did_stays_as_it_is(site: Site) -> None:
    job = site.running()
    done = complete(job, VIDEO, job.usage, site.clock.now)
    site.calls.when_asked = lambda _: site.store.replace(job, done)
    site.calls.end("fc-1")
    site.queue.tend()
    assert (site.row(job), len(site.calls.made)) == (done, 1)


# the platform out of reach


def test_a_call_that_cannot_be_made_again_costs_no_second_loss(site: Site) -> None:
    job = site.running()
    site.calls.end("fc-1")

    def go() -> None:
        site.calls.is_reachable = False

    site.calls.when_asked = lambda _: go()
    with pytest.raises(StoreBusy):
        site.queue.tend()
    site.calls.is_reachable = True
    site.clock.now += UNCALLED_S + 1
    for _ in range(2):
        site.queue.tend()
    assert (site.row(job).losses, site.calls.of(job.id)) == (1, ["fc-1", "fc-2"])


def test_an_engine_that_cannot_call_again_leaves_it_to_who_tends(site: Site) -> None:
    job = site.running()
    back = put(site.store, job, lose(job, PROBLEM, site.clock.now))
    site.calls.is_reachable = False
    site.queue.call_again(back)
    site.calls.is_reachable = True
    site.calls.end("fc-1")
    site.clock.now += UNCALLED_S + 1
    site.queue.tend()
    assert (site.row(job), site.calls.of(job.id)) == (back, ["fc-1", "fc-2"])


def test_who_tends_hears_that_the_platform_is_out_of_reach(site: Site) -> None:
    job = site.running()
    site.calls.is_reachable = False
    with pytest.raises(StoreBusy):
        site.queue.tend()
    assert site.row(job) == job


# engines that do not let go


@pytest.mark.parametrize(
    ("since_s", "stopped"),
    [(LET_GO_S - 1, []), (LET_GO_S + 1, [("fc-1", True)]), (LET_GO_S * 61, [])],
    ids=["a moment ago", "too long ago", "long past"],
)
def test_an_engine_that_holds_on_to_a_canceled_job_is_ended(
    site: Site, since_s: float, stopped: list[tuple[str, bool]]
) -> None:
    job = site.canceled()
    site.clock.now += since_s
    site.queue.tend()
    assert site.calls.stopped == stopped
    assert site.row(job) == job


def test_an_engine_that_let_go_is_left_alone(site: Site) -> None:
    site.canceled()
    site.calls.end("fc-1")
    site.clock.now += LET_GO_S + 1
    site.queue.tend()
    assert site.calls.stopped == []


def test_a_job_that_was_canceled_while_it_waited_has_no_engine_to_end(site: Site) -> None:
    job = site.waiting()
    put(site.store, job, cancel(job, site.clock.now))
    site.clock.now += LET_GO_S + 1
    site.queue.tend()
    assert site.calls.stopped == []
