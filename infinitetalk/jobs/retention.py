"""What is deleted when: finished jobs by age and by disk, leftovers of killed processes."""

from dataclasses import dataclass, replace
from typing import Self

from infinitetalk.config import Settings
from infinitetalk.errors import JobNotFound
from infinitetalk.jobs.blobs import BlobStore
from infinitetalk.jobs.model import Job, Status
from infinitetalk.jobs.outbox import Outbox
from infinitetalk.jobs.store import JobStore

REMEMBER_S = 30 * 86400.0  # an erased job answers 410 for so long, 404 afterwards
ENDED = tuple(status for status in Status if status.is_terminal)
LEFTOVER_S = 86400.0  # uploads take less; what is older was left by a killed process


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much is kept."""

    keep_s: float
    max_bytes: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.retention_hours * 3600, settings.max_disk_gigabytes * 1e9)


def sweep(
    store: JobStore, blobs: BlobStore, outbox: Outbox, retention: Retention, now: float
) -> int:
    """Delete what is over its time or over the disk's limit; how many jobs that were."""
    ended = sorted((_aging(job, store, now) for job in store.find(*ENDED)), key=_end)
    old = [job for job in ended if _end(job) < now - retention.keep_s]
    count = sum(expire(job, store, blobs, outbox, now) for job in old)
    too_many = _over_disk(ended[len(old) :], blobs, retention.max_bytes)
    count += sum(expire(job, store, blobs, outbox, now) for job in too_many)
    outbox.forget(store.forget(now - REMEMBER_S))
    _remove_leftovers(store, blobs, now)
    # A job's files come first, then what is owed for it, then its row.
    outbox.forget(sorted(outbox.orphans() - set(blobs.ids())))
    return count


def expire(job: Job, store: JobStore, blobs: BlobStore, outbox: Outbox, now: float) -> bool:
    """Turn a finished job's row into a tombstone, then delete its files and what is owed for it.

    In this order nobody is promised a file that is going; a kill in between leaves a leftover.
    """
    if not store.replace(job, erased(job, now)):
        return False
    blobs.erase(job.id)
    outbox.forget([job.id])
    return True


def erased(job: Job, now: float) -> Job:
    """The tombstone: no prompt, no key, no names."""
    spec = replace(job.spec, prompt="", negative_prompt="")
    return replace(
        job, spec=spec, consent=None, idempotency_key=None, fingerprint="", erased_at=now
    )


def _aging(job: Job, store: JobStore, now: float) -> Job:
    """A job that ended in the future, by a clock that was turned back since, ends now instead."""
    if _end(job) <= now:
        return job
    aging = replace(job, completed_at=now)
    store.replace(job, aging)
    return aging


def _end(job: Job) -> float:
    assert job.completed_at is not None
    return job.completed_at


def _over_disk(ended: list[Job], blobs: BlobStore, max_bytes: float) -> list[Job]:
    """The jobs that ended first, so many that the rest fits."""
    used = sum(blobs.size_bytes(job_id) for job_id in blobs.ids())
    too_many: list[Job] = []
    for job in ended:
        if used <= max_bytes:
            break
        used -= blobs.size_bytes(job.id)
        too_many.append(job)
    return too_many


def _remove_leftovers(store: JobStore, blobs: BlobStore, now: float) -> None:
    """Files that killed processes left behind: of requests, of jobs that were to be erased."""
    for job_id in list(blobs.ids()):
        if _is_left(job_id, store, blobs, now):
            blobs.erase(job_id)
    blobs.clean(now, LEFTOVER_S)


def _is_left(job_id: str, store: JobStore, blobs: BlobStore, now: float) -> bool:
    is_old = blobs.age_s(job_id, now) > LEFTOVER_S  # before the row: files come first
    try:
        return store.get(job_id).erased_at is not None
    except JobNotFound:
        return is_old
