"""The fleet's queue: Modal's call queue, and what is done when a call ends and its job has not.

    enqueue    one call for every job; Modal orders them and starts containers
    withdraw   a waiting call is taken back; a running engine notices by itself, at the next step
    tend       from time to time: jobs whose call is lost get another one, as often as an engine
               may die under a job; engines that do not let go of a canceled job are ended

The number of a waiting job's call is kept beside the rows, under `<job id>@`. A job that runs, or
did, names its call as its worker: where one was called for twice, that is the call that counts.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace

from infinitetalk.errors import StoreBusy, WorkerLost
from infinitetalk.jobs import journal
from infinitetalk.jobs.modal_calls import Calls, Outcome
from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.model import (
    MAX_LOSSES,
    Clock,
    Job,
    Problem,
    Status,
    fail,
    lose,
)
from infinitetalk.jobs.store import JobStore

UNCALLED_S = 60.0  # a row is older than its call by far less
LET_GO_S = 60.0  # a denoising step takes seconds
WATCHED = 100  # canceled jobs that are looked at: those of the last minutes
OPEN = (Status.PENDING, Status.IN_PROGRESS)
LOST = Problem.of(WorkerLost("The engine died under this job several times."))
TOO_LONG = Problem.of(WorkerLost("The job ran for as long as a job may, several times."))
log = logging.getLogger(__name__)


class ModalQueue:
    """The queue of a fleet.

    Args:
        numbers: the Dict where numbers of calls are kept.
    """

    def __init__(self, store: JobStore, numbers: Table, calls: Calls, clock: Clock) -> None:
        self._store = store
        self._numbers = numbers
        self._calls = calls
        self._clock = clock

    def enqueue(self, job: Job) -> None:
        """Call for a committed job, unless that was done. If Modal cannot be reached now, `tend`
        makes up for it: the row is there.
        """
        try:
            if not job.status.is_terminal and self._numbers.get(_key(job)) is None:
                self._call(job)
        except StoreBusy as error:
            log.warning("job %s has no call yet: %s", job.id, error.message)

    def position(self, job: Job) -> int | None:
        if job.status is not Status.PENDING:
            return None
        waiting = [other.id for other in self._store.find(Status.PENDING)]
        return waiting.index(job.id) if job.id in waiting else None

    def oldest_s(self) -> float:
        waiting = self._store.find(Status.PENDING)
        return max(0.0, self._clock() - waiting[0].created_at) if waiting else 0.0

    def withdraw(self, job: Job) -> None:
        if job.executed_at is not None:  # an engine has it, or had it
            return
        try:
            if call := self._numbers.get(_key(job)):
                self._calls.stop(call, with_container=False)
        except StoreBusy as error:  # the engine finds out when it begins
            log.warning("the call of job %s was not taken back: %s", job.id, error.message)

    def tend(self) -> None:
        """See to every job that needs it.

        Raises:
            StoreBusy: Modal cannot be reached.
        """
        for job in self._store.find(*OPEN):
            self._see_to(job)
        self._end_stubborn(self._store.recent(Status.CANCELED, WATCHED))

    def call_again(self, job: Job) -> None:
        """Give a job that is pending again its next call; if that fails now, `tend` does it."""
        try:
            self._replace_call(job)
        except StoreBusy as error:
            log.warning("job %s has no call again yet: %s", job.id, error.message)

    def _see_to(self, job: Job) -> None:
        call = self._call_of(job)
        if call is None:
            if self._clock() - job.created_at > UNCALLED_S:
                self._call(job)
            return
        outcome = self._calls.outcome(call)
        if outcome is Outcome.RUNNING or self._call_of(job) != call:  # it was called for again
            return
        log.warning("the call of job %s is over (%s) and the job is not", job.id, outcome)
        self._take_back(job, TOO_LONG if outcome is Outcome.TIMED_OUT else LOST)

    def _call_of(self, job: Job) -> str | None:
        if job.status is Status.IN_PROGRESS:
            return job.worker
        return self._numbers.get(_key(job))

    def _take_back(self, job: Job, problem: Problem) -> None:
        """A call that ended without its job is a loss, whether or not an engine had begun."""
        now = self._clock()
        if job.status is Status.IN_PROGRESS:
            taken = lose(job, problem, now)
        elif job.losses + 1 < MAX_LOSSES:
            taken = replace(job, losses=job.losses + 1)
        else:
            taken = fail(job, problem, now)
        if not self._store.replace(job, taken):
            return
        if taken.status.is_terminal:
            journal.record(taken)
        else:
            self._replace_call(taken)

    def _end_stubborn(self, canceled: Iterable[Job]) -> None:
        now = self._clock()
        for job in canceled:
            since = now - (job.completed_at or now)
            if job.worker is None or not LET_GO_S < since < LET_GO_S * 60:
                continue
            if self._calls.outcome(job.worker) is Outcome.RUNNING:
                log.warning("job %s was canceled %.0f s ago and still runs", job.id, since)
                self._calls.stop(job.worker, with_container=True)

    def _replace_call(self, job: Job) -> None:
        """Without a number in between: a call that cannot be made must not be taken for lost."""
        self._numbers.drop(_key(job))
        self._call(job)

    def _call(self, job: Job) -> None:
        call = self._calls.spawn(job.id)
        self._numbers.put(_key(job), call)


def _key(job: Job) -> str:
    return f"{job.id}@"
