"""Rows of jobs of a fleet, in three Modal Dicts.

    jobs    chains of records (modal_chain), idempotency keys (modal_keys), totals (modal_tally)
    open    the index of jobs that have not ended (modal_index)
    ended   the index of jobs that have

What decides is asked of Modal itself and exact however many containers ask: `replace`, `get`,
`is_current`, `report`, `add` with a key. What looks at many jobs (`find`, `counts`, `recent`,
`spent`, the limit of `add`) may be `open_s` seconds old for open and `ended_s` for ended jobs,
this process's own changes included. Jobs come in the order of their containers' clocks.

A process may be killed between any two requests: chains are written first, and `repair` brings the
rest in line. Not here: whether somebody runs a job (modal_queue) and its files (modal_blobs).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import modal

from infinitetalk.errors import JobNotFound, QueueFull, StoreBusy
from infinitetalk.jobs.modal_chain import Chains, Row
from infinitetalk.jobs.modal_index import Index
from infinitetalk.jobs.modal_keys import IdempotencyKeys
from infinitetalk.jobs.modal_table import Nanoseconds, Table
from infinitetalk.jobs.modal_tally import Archive
from infinitetalk.jobs.model import Job, Status, Usage
from infinitetalk.jobs.store import same_request
from infinitetalk.progress import Progress

ENDED = frozenset(status for status in Status if status.is_terminal)
OPEN = frozenset(Status) - ENDED
READ = "read"  # when everything was last read, in nanoseconds
READ_EVERY_NS = 86400 * 10**9  # Modal drops an entry that was not read for seven days
READERS = 16  # requests at once while everything is read
log = logging.getLogger(__name__)


class ModalJobStore:
    """The store of a fleet; every container has one of its own over the same Dicts."""

    def __init__(
        self,
        jobs: modal.Dict,
        open_: modal.Dict,
        ended: modal.Dict,
        *,
        clock: Nanoseconds = time.time_ns,
        open_s: float = 1.0,
        ended_s: float = 10.0,
    ) -> None:
        self._jobs = Table(jobs)
        self._chains = Chains(self._jobs, clock)
        self._index = Index(Table(open_), Table(ended), clock, open_s=open_s, ended_s=ended_s)
        self._keys = IdempotencyKeys(self._jobs, self._living)
        self._archive = Archive(self._jobs)
        self._clock = clock
        self._lock = threading.Lock()
        self._last_seq = 0

    def add(self, job: Job, *, limit: int) -> Job:
        """As `JobStore.add`. After StoreBusy the job may have been added: its files must stay."""
        key = job.idempotency_key
        known = None if key is None else self._keys.holder(job.owner, key)
        if known is not None:
            return same_request(known, job)
        if self.counts(Status.PENDING)[Status.PENDING] >= limit:
            raise QueueFull(f"{limit} jobs are waiting already, try again later.")
        row = Row(job, self._next_seq(), revision=0)
        self._chains.begin(row)
        holder = self._admit(row)
        return job if holder.id == job.id else same_request(holder, job)

    def has_key(self, owner: str, idempotency_key: str) -> bool:
        return self._keys.holder(owner, idempotency_key) is not None

    def get(self, job_id: str) -> Job:
        row = self._head(job_id)
        if row is None:
            raise JobNotFound("There is no such job.")
        return self._index.reported(row)

    def replace(self, old: Job, new: Job) -> bool:
        head = self._chains.known(old.id)  # spares a request: `append` finds out if it is not so
        if head is None or _state(head.job) != _state(old):
            head = self._head(old.id)
        while head is not None and _state(head.job) == _state(old):
            row = self._chains.append(head, new)
            if row is not None:
                self._settle(row)
                return True
            head = self._head(old.id)
        return False

    def report(self, job: Job, progress: Progress, usage: Usage) -> bool:
        is_ours = self.is_current(job)
        if is_ours:
            self._index.report(replace(job, progress=progress, usage=usage))
        return is_ours

    def is_current(self, job: Job) -> bool:
        head = self._head(job.id)
        return head is not None and _state(head.job) == _state(job)

    def find(self, *statuses: Status, owner: str | None = None) -> list[Job]:
        jobs = self._in(statuses or tuple(Status))
        return [job for job in jobs if owner in (None, job.owner)]

    def recent(self, status: Status, limit: int) -> list[Job]:
        return self._in((status,))[::-1][:limit]

    def counts(self, *statuses: Status) -> Mapping[Status, int]:
        wanted = statuses or tuple(Status)
        found = Counter(job.status for job in self._in(wanted))
        return {status: found[status] for status in wanted}

    def spent(self, owner: str, since: float) -> float:
        jobs = [row.job for row in self._rows(tuple(Status))]
        mine = [job for job in jobs if job.owner == owner and job.created_at >= since]
        return sum(job.usage.cost_usd for job in mine)

    def forget(self, before: float) -> Sequence[str]:
        """As `JobStore.forget`, by one process at a time."""
        self._index.expire()
        rows = [row for row in self._index.ended_rows().values() if _was_erased(row.job, before)]
        if rows:
            self._archive.add([row.job for row in rows])
        for row in rows:
            self._chains.drop(row)
            self._index.forget(row.job.id)
        return [row.job.id for row in rows]

    def ended(self) -> list[Job]:
        """Every job that has ended and is not forgotten, erased ones too."""
        return [row.job for row in self._index.ended_rows().values()]

    def repair(self) -> int:
        """Finish what killed processes began, and keep Modal from dropping what nobody reads.

        For one process at a time, every minute or so; how many jobs the index was wrong about.
        """
        revisions = self._chains.revisions()
        self._index.expire()
        noted = {row.job.id: row.revision for row in self._rows(tuple(Status))}
        behind = [job_id for job_id, last in revisions.items() if noted.get(job_id, -1) < last]
        for job_id in behind:
            self._mend(job_id)
        self._index.tidy(lambda job_id: job_id in revisions or self._has_chain(job_id))
        self._read_everything()
        return len(behind)

    def _head(self, job_id: str) -> Row | None:
        start = self._chains.known(job_id) or self._index.get(job_id)
        return self._chains.head(job_id, start)

    def _has_chain(self, job_id: str) -> bool:
        return self._chains.head(job_id, None) is not None

    def _living(self, job_id: str) -> Job | None:
        row = self._head(job_id)
        return None if row is None or row.job.erased_at is not None else self._index.reported(row)

    def _admit(self, row: Row) -> Job:
        """Let in a job whose chain has begun, twice as good as once; the job that has its key."""
        holder = self._keys.claim(row.job)
        with _left_to_repair(row.job):
            if holder.id == row.job.id:
                self._index.admit(row)
            else:
                self._chains.drop(row)
        return holder

    def _settle(self, row: Row) -> None:
        """What a new revision entails; the index last, for by it `repair` sees what is undone."""
        with _left_to_repair(row.job):
            if row.job.erased_at is not None:
                self._chains.blank(row)
            self._index.note(row)

    def _mend(self, job_id: str) -> None:
        row = self._head(job_id)
        if row is None:
            return
        if row.revision == 0:
            self._admit(row)
        else:
            self._settle(row)

    def _read_everything(self) -> None:
        now, before = self._clock(), self._jobs.get(READ)
        if before is not None and now - before < READ_EVERY_NS:
            return
        self._archive.read()
        with ThreadPoolExecutor(READERS) as readers:
            list(readers.map(self._read, self._rows(tuple(Status))))
        self._jobs.put(READ, now)

    def _read(self, row: Row) -> None:
        self._index.get(row.job.id)
        self._chains.touch(row)
        if row.job.idempotency_key is not None:
            self._keys.holder(row.job.owner, row.job.idempotency_key)

    def _in(self, statuses: Collection[Status]) -> list[Job]:
        """Jobs in these states that are not erased, in the order they came."""
        rows = sorted(self._rows(statuses), key=lambda row: (row.seq, row.job.id))
        jobs = [row.job for row in rows if row.job.erased_at is None]
        return [job for job in jobs if job.status in statuses]

    def _rows(self, statuses: Collection[Status]) -> list[Row]:
        """The rows among which jobs in these states are."""
        opened = {} if ENDED.issuperset(statuses) else self._index.open_rows()
        ended = {} if OPEN.issuperset(statuses) else self._index.ended_rows()
        return list({**opened, **ended}.values())

    def _next_seq(self) -> int:
        with self._lock:
            self._last_seq = max(self._last_seq + 1, self._clock())
            return self._last_seq


@contextmanager
def _left_to_repair(job: Job) -> Iterator[None]:
    """The record itself is written: nobody has to wait for the rest, or to try again."""
    try:
        yield
    except StoreBusy:
        log.warning("the index of job %s is behind until it is repaired", job.id)


def _was_erased(job: Job, before: float) -> bool:
    return job.erased_at is not None and job.erased_at < before


def _state(job: Job) -> tuple[Status, int, float | None]:
    """What a compare-and-set compares."""
    return job.status, job.attempt, job.erased_at
