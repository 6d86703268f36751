"""A job as a record: its states, which may follow which, and what is kept of it.

    pending -> in_progress -> completed | failed | canceled
       ^            |
       +------------+          lost with its engine, or handed back

Words are BentoML's. A record never changes: `transition` makes the next one, and a store puts it
in the place of the old one by compare-and-set on (status, attempt), so the engine of a lost
attempt can write nothing any more.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from enum import StrEnum
from typing import Any, Self

from infinitetalk.errors import InfiniteTalkError, StoreCorrupt
from infinitetalk.progress import Progress, Stage
from infinitetalk.spec import GenerationSpec, spec_from_json

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

MAX_LOSSES = 3  # an engine may die under a job so often; then the job is to blame


class Status(StrEnum):
    """Where a job is."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.IN_PROGRESS, Status.FAILED, Status.CANCELED}),
    Status.IN_PROGRESS: frozenset(
        {Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELED}
    ),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}


class IllegalTransition(Exception):
    """A job cannot go from its state to that one: a mistake of ours or a race that was lost."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is kept with a job and shown to its owner."""

    code: str
    message: str
    status: int
    retryable: bool
    field: str | None = None

    @classmethod
    def of(cls, error: InfiniteTalkError) -> Self:
        return cls(error.code, error.message, error.status, error.retryable, error.field)


@dataclass(frozen=True, slots=True)
class Video:
    """A finished video in the job's folder."""

    sha256: str
    size_bytes: int
    frames: int
    windows: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used so far, over all attempts."""

    gpu_seconds: float = 0.0
    cost_usd: float = 0.0
    stages: Mapping[Stage, float] = field(default_factory=dict)  # seconds
    attention: str | None = None
    gpu: str | None = None
    fallback_windows: int = 0  # came out broken and were rendered again with torch's attention


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that is known of a job but its files. Times are seconds since 1970, UTC."""

    id: str
    spec: GenerationSpec
    seconds: float  # of video
    created_at: float
    voices: int = 1
    owner: str = ""  # of which API key; empty where there are none
    request_id: str = ""
    fingerprint: str = ""  # of the request, for the idempotency key
    idempotency_key: str | None = None
    retry_of: str | None = None
    consent: str | None = None  # whose covers face and voice, in the caller's words
    status: Status = Status.PENDING
    attempt: int = 0  # counts leases and fences off the engines of earlier ones
    losses: int = 0  # attempts that ended with the engine's death or a passing fault
    worker: str | None = None
    executed_at: float | None = None
    completed_at: float | None = None
    erased_at: float | None = None
    progress: Progress | None = None
    usage: Usage = Usage()
    error: Problem | None = None
    result: Video | None = None


def new_id() -> str:
    """A name nobody can guess."""
    return uuid.uuid4().hex


def transition(job: Job, to: Status, **changes: Any) -> Job:
    """The record of a job in its next state.

    Raises:
        IllegalTransition: the table does not allow it.
    """
    if to not in TRANSITIONS[job.status]:
        raise IllegalTransition(f"{job.status} -> {to}")
    return replace(job, status=to, **changes)


def start(job: Job, worker: str, now: float) -> Job:
    """A worker takes a waiting job."""
    first = job.executed_at if job.executed_at is not None else now
    return transition(
        job, Status.IN_PROGRESS, worker=worker, attempt=job.attempt + 1, executed_at=first
    )


def complete(job: Job, video: Video, usage: Usage, now: float) -> Job:
    """The video is in the job's folder, verified."""
    return transition(job, Status.COMPLETED, result=video, usage=usage, completed_at=now)


def fail(job: Job, problem: Problem, now: float) -> Job:
    """The job ends without a video."""
    return transition(job, Status.FAILED, error=problem, completed_at=now)


def cancel(job: Job, now: float) -> Job:
    """The caller does not want it any more."""
    return transition(job, Status.CANCELED, completed_at=now)


def hand_back(job: Job) -> Job:
    """A worker that has to stop puts the job back in its place; that is no loss."""
    return transition(job, Status.PENDING, worker=None)


def lose(job: Job, problem: Problem, now: float) -> Job:
    """An attempt ended by a fault that may pass: back into its place, or failed for good."""
    losses = job.losses + 1
    if losses < MAX_LOSSES:
        return transition(job, Status.PENDING, worker=None, losses=losses)
    return replace(fail(job, problem, now), losses=losses)


def job_to_json(job: Job) -> str:
    """A record as text, ASCII only: no prompt can break the store."""
    return json.dumps(asdict(job), separators=(",", ":"))


def job_from_json(text: str) -> Job:
    """The inverse of `job_to_json`.

    Raises:
        StoreCorrupt: the text is no record of this version.
    """
    try:
        return _job_of(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt("The record of a job is damaged.") from error


def _job_of(fields: dict[str, Any]) -> Job:
    usage = fields["usage"]
    stages = {Stage(name): seconds for name, seconds in usage["stages"].items()}
    fields |= {
        "spec": spec_from_json(fields["spec"]),
        "status": Status(fields["status"]),
        "usage": Usage(**{**usage, "stages": stages}),
        "progress": progress_from_json(fields["progress"]),
        "error": fields["error"] and Problem(**fields["error"]),
        "result": fields["result"] and Video(**fields["result"]),
    }
    known = {item.name for item in dataclass_fields(Job)}  # a newer version may have added some
    return Job(**{name: value for name, value in fields.items() if name in known})


def progress_from_json(fields: Mapping[str, Any] | None) -> Progress | None:
    """The inverse of `asdict` for a moment of a job."""
    return None if fields is None else Progress(**{**fields, "stage": Stage(fields["stage"])})
