"""What is owed to others and what engines say of themselves, for a fleet: two Modal Dicts.

    deliveries   <job id>   JSON: kind -> url, state, attempts, due_at
    engines      <slot>     (when it was posted, JSON of the engine)

Every entry has one writer at a time: the request that promises a job's deliveries before the job
is added, then the one process that delivers; and each engine its own. Modal drops an entry that
nobody reads for a week.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from operator import itemgetter

import modal

from infinitetalk.errors import JobNotFound
from infinitetalk.jobs.engines import Engine, EngineState, engine_of
from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.model import Clock, Job, Status
from infinitetalk.jobs.outbox import (
    BACKOFF_S,
    MAX_ATTEMPTS,
    MAX_BACKOFF_S,
    Delivery,
    Kind,
    State,
)
from infinitetalk.jobs.store import JobStore

AT_ONCE = 100  # deliveries that one look finds due
ENTRY_S = 2 * 3600.0  # how long an engine's word counts: a killed one takes nothing back
FAILED_S = 600.0  # and a failed one's, so that a mended deployment is not refused for long


@dataclass(frozen=True, slots=True)
class _Owed:
    """One thing owed for a job."""

    url: str | None
    state: State = State.WAITING
    attempts: int = 0
    due_at: float = 0.0

    def is_due(self, now: float) -> bool:
        """What seems due later than any pause takes was put off by a clock that was wrong."""
        is_time = self.due_at <= now or self.due_at > now + MAX_BACKOFF_S
        return self.state is State.WAITING and is_time


class ModalOutbox:
    """The deliveries of a fleet."""

    def __init__(self, deliveries: modal.Dict, store: JobStore) -> None:
        self._table = Table(deliveries)
        self._store = store

    def promise(self, job_id: str, kind: Kind, url: str) -> None:
        owed = self._of(job_id)
        if kind not in owed:
            self._put(job_id, {**owed, kind: _Owed(url)})

    def due(self, now: float) -> list[Delivery]:
        open_ids = {job.id for job in self._store.find(Status.PENDING, Status.IN_PROGRESS)}
        found = [
            (kind, one.due_at, Delivery(0, job_id, kind, one.url or "", one.attempts))
            for job_id, text in self._table.items().items()
            if job_id not in open_ids
            for kind, one in _due(_owed(text), now).items()
        ]
        found.sort(key=itemgetter(0, 1))
        due = (delivery for *_, delivery in found if self._has_ended(delivery.job_id))
        return list(islice(due, AT_ONCE))

    def delivered(self, delivery: Delivery) -> None:
        self._end(delivery, State.DELIVERED)

    def failed(self, delivery: Delivery, now: float, *, is_final: bool = False) -> None:
        attempts = delivery.attempts + 1
        if is_final or attempts >= MAX_ATTEMPTS:
            self._end(delivery, State.FAILED)
            return
        due_at = now + BACKOFF_S * 2**delivery.attempts
        owed = self._of(delivery.job_id)
        if delivery.kind in owed:
            later = replace(owed[delivery.kind], attempts=attempts, due_at=due_at)
            self._put(delivery.job_id, {**owed, delivery.kind: later})

    def states(self, job_id: str) -> dict[Kind, State]:
        return {kind: one.state for kind, one in self._of(job_id).items()}

    def orphans(self) -> set[str]:
        unseen = set(self._table.names()) - {job.id for job in self._store.find()}
        return {job_id for job_id in unseen if self._job(job_id) is None}

    def forget(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            self._table.drop(job_id)

    def _end(self, delivery: Delivery, state: State) -> None:
        owed = self._of(delivery.job_id)
        if delivery.kind in owed:  # else it was forgotten meanwhile
            ended = _Owed(None, state, delivery.attempts + 1)
            self._put(delivery.job_id, {**owed, delivery.kind: ended})

    def _of(self, job_id: str) -> dict[Kind, _Owed]:
        return _owed(self._table.get(job_id) or "{}")

    def _put(self, job_id: str, owed: dict[Kind, _Owed]) -> None:
        self._table.put(job_id, json.dumps({kind: asdict(one) for kind, one in owed.items()}))

    def _has_ended(self, job_id: str) -> bool:
        job = self._job(job_id)
        return job is not None and job.completed_at is not None

    def _job(self, job_id: str) -> Job | None:
        try:
            return self._store.get(job_id)
        except JobNotFound:
            return None


class ModalEngineBoard:
    """What the engines of a fleet say of themselves; a slot is the name of a container."""

    def __init__(self, engines: modal.Dict, clock: Clock) -> None:
        self._table = Table(engines)
        self._clock = clock

    def post(self, engine: Engine) -> None:
        """Replace what this engine said before, for the next ENTRY_S seconds."""
        self._table.put(engine.slot, (self._clock(), json.dumps(asdict(engine))))

    def all(self) -> list[Engine]:
        """What every engine said last, as far as it still counts."""
        entries = sorted(self._table.items().items())
        engines = [(posted, engine_of(json.loads(record))) for _, (posted, record) in entries]
        return [engine for posted, engine in engines if self._counts(engine, posted)]

    def remove(self, slot: str) -> None:
        """Forget an engine that has ended."""
        self._table.drop(slot)

    def clean(self) -> None:
        """Forget the engines whose word does not count any more."""
        for slot in set(self._table.names()) - {engine.slot for engine in self.all()}:
            self.remove(slot)

    def _counts(self, engine: Engine, posted: float) -> bool:
        counts_s = FAILED_S if engine.state is EngineState.FAILED else ENTRY_S
        return self._clock() - posted < counts_s


def _owed(text: str) -> dict[Kind, _Owed]:
    found = json.loads(text)
    return {
        Kind(kind): _Owed(**{**fields, "state": State(fields["state"])})
        for kind, fields in found.items()
    }


def _due(owed: dict[Kind, _Owed], now: float) -> dict[Kind, _Owed]:
    """What may be tried now: a webhook waits for the upload."""
    due = {kind: one for kind, one in owed.items() if one.is_due(now)}
    upload = owed.get(Kind.UPLOAD)
    if upload is not None and upload.state is State.WAITING:
        due.pop(Kind.WEBHOOK, None)
    return due
