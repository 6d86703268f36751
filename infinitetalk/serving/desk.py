"""What callers can do with jobs, whatever protocol they speak: the use cases of the service.

    submit   body -> checked folder -> row -> id        the id is told only after the commit
    find     who may see the job, and whether it is still there
    cancel   at once in the row; the engine stops within a step
    retry    the same input and seed as a new job
    erase    files gone, a tombstone stays

Everything that blocks runs in a thread. Jobs of other keys do not exist for a caller.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.requests import Request

from infinitetalk.config import Settings
from infinitetalk.consent import check_consent
from infinitetalk.errors import (
    BudgetExhausted,
    InvalidField,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    QueueFull,
    StoreBusy,
)
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs import journal, retention
from infinitetalk.jobs.host import Host
from infinitetalk.jobs.model import Clock, Job, Status, cancel
from infinitetalk.jobs.outbox import Kind
from infinitetalk.serving.intake import Accepted, Intake
from infinitetalk.serving.pace import Pace
from infinitetalk.serving.preview import Preview
from infinitetalk.serving.status import describe
from infinitetalk.spec import GenerationSpec
from infinitetalk.weights.selection import one_speaker_only

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    owner: str
    request_id: str
    idempotency_key: str | None = None


class Desk:
    """The jobs of a host, for callers.

    Args:
        engines: how many jobs can be rendered at once.
    """

    def __init__(
        self, settings: Settings, host: Host, intake: Intake, clock: Clock, engines: int
    ) -> None:
        self._settings = settings
        self._host = host
        self._intake = intake
        self._clock = clock
        self._pace = Pace(host.store, engines)

    async def submit(self, request: Request, caller: Caller) -> Job:
        """Take a request in; the job that is now, or was already, in the queue for it.

        Raises:
            InvalidInput, TimedOut: the request is not what can be rendered.
            Refused: not now.
            StorageFull, StoreBusy: this host cannot take it.
        """
        return await self._submit(caller, lambda folder: self._intake.take(request, folder))

    async def submit_fields(
        self, fields: Mapping[str, object], caller: Caller, files: Mapping[str, Path] | None = None
    ) -> Job:
        """The same for fields that are read already, and files of this host."""
        take = self._intake.take_fields
        return await self._submit(caller, lambda folder: take(fields, files or {}, folder))

    async def find(self, job_id: str, caller: Caller) -> Job:
        """
        Raises:
            JobNotFound: there is none, or it is another key's.
            JobExpired: it was erased.
        """
        job = await to_thread.run_sync(self._host.store.get, job_id)
        if job.owner != caller.owner:
            raise JobNotFound("There is no such job.")
        if job.erased_at is not None:
            raise JobExpired("This job was erased, or its time is over.")
        return job

    async def describe(self, job: Job) -> dict[str, Any]:
        """The status of a job as JSON."""
        return await to_thread.run_sync(self._describe, job)

    async def cancel(self, job: Job) -> Job:
        """Cancel a job that has not ended; one that has stays as it is."""
        return await to_thread.run_sync(self._cancel, job)

    async def retry(self, job: Job, caller: Caller) -> Job:
        """A new job with the input of an ended one.

        Raises:
            JobNotFinished: it has not ended.
            ConsentMissing: it was taken in when none had to be stated.
            JobExpired: its files are gone.
            Refused: not now.
        """
        if not job.status.is_terminal:
            raise JobNotFinished(f"task {job.id} is not completed yet")
        return await to_thread.run_sync(self._retry, job, caller)

    async def erase(self, job: Job) -> None:
        """Cancel a job if need be, and delete what there is of it."""
        await to_thread.run_sync(self._erase, job)

    async def result(self, job: Job) -> Path:
        """The video of a completed job.

        Raises:
            JobExpired: its file is gone.
        """
        return await to_thread.run_sync(self._host.blobs.result, job)

    def preview(self, job: Job) -> Preview:
        """What can be watched of a job before it is done."""
        return Preview(job, self._host.blobs)

    async def _submit(self, caller: Caller, take: Callable[..., Any]) -> Job:
        await to_thread.run_sync(self._refuse_early, caller)
        with self._host.blobs.staging() as folder:
            accepted: Accepted = await take(folder)
            return await to_thread.run_sync(self._commit, folder.name, accepted, caller)

    def _refuse_early(self, caller: Caller) -> None:
        """Before a body is read, what can be known is said; a repeated request is never refused."""
        if self._is_repeated(caller):
            return
        self._host.require_engine()
        if self._host.store.counts(Status.PENDING)[Status.PENDING] >= self._settings.max_queue:
            raise self._queue_full()
        self._check_budget(caller)

    def _is_repeated(self, caller: Caller) -> bool:
        key = caller.idempotency_key
        return key is not None and self._host.store.has_key(caller.owner, key)

    def _commit(self, job_id: str, accepted: Accepted, caller: Caller) -> Job:
        job = Job(
            id=job_id,
            spec=accepted.spec,
            seconds=accepted.seconds,
            voices=accepted.voices,
            created_at=self._clock(),
            owner=caller.owner,
            request_id=caller.request_id,
            fingerprint=accepted.fingerprint,
            idempotency_key=caller.idempotency_key,
            consent=accepted.consent,
        )
        if not self._is_repeated(caller):
            self._check_abilities(job.spec, job.voices)
            self._check_budget(caller, job.seconds)
        owed = {Kind.WEBHOOK: accepted.callback_url, Kind.UPLOAD: accepted.output_url}
        return self._enqueue(job, accepted.folder, {k: url for k, url in owed.items() if url})

    def _enqueue(self, job: Job, staged: JobFolder, owed: Mapping[Kind, str]) -> Job:
        """Files, then what is owed, then the row: a crash in between leaves no broken job."""
        self._host.blobs.adopt(staged, job.id)
        try:
            for kind, url in owed.items():
                self._host.outbox.promise(job.id, kind, url)
            known = self._add(job)
        except BaseException as error:
            if not (isinstance(error, StoreBusy) and self._may_be_there(job)):
                self._discard(job, owed)
            raise
        if known.id != job.id:
            self._discard(job, owed)
        self._host.queue.enqueue(known)
        return known

    def _may_be_there(self, job: Job) -> bool:
        """Whether a row whose writing failed may have been written all the same, as over a network;
        its files must stay then, and retention finds them if not.
        """
        try:
            self._host.store.get(job.id)
        except JobNotFound:
            return False
        except StoreBusy:
            return True
        return True

    def _add(self, job: Job) -> Job:
        try:
            return self._host.store.add(job, limit=self._settings.max_queue)
        except QueueFull:
            raise self._queue_full() from None

    def _queue_full(self) -> QueueFull:
        return QueueFull(
            f"{self._settings.max_queue} jobs are waiting already, try again later.",
            retry_after_s=self._pace.seconds_per_job(),
        )

    def _discard(self, job: Job, owed: Mapping[Kind, str]) -> None:
        self._host.blobs.erase(job.id)
        if owed:
            self._host.outbox.forget([job.id])

    def _check_budget(self, caller: Caller, seconds: float = 0.0) -> None:
        """What was spent today, what is under way and a video so long must stay below the budget.

        What a second costs is known once a job was done here; until then one is taken at a time.
        """
        budget = self._settings.daily_budget_usd
        if budget is None:
            return
        open_jobs = self._host.store.find(Status.PENDING, Status.IN_PROGRESS, owner=caller.owner)
        price = self._pace.usd_per_second()
        if price is None and open_jobs:
            raise BudgetExhausted(
                "What a video costs here is known when the first job is done; try again then.",
                retry_after_s=self._pace.seconds_per_job(),
            )
        now = self._clock()
        midnight = now - now % DAY_S
        to_come = (sum(job.seconds for job in open_jobs) + seconds) * (price or 0.0)
        if self._host.store.spent(caller.owner, midnight) + to_come >= budget:
            raise BudgetExhausted(
                f"The budget of ${budget:g} a day has no room for this job before midnight UTC.",
                retry_after_s=midnight + DAY_S - now,
            )

    def _check_abilities(self, spec: GenerationSpec, voices: int) -> None:
        """What the loaded weights and their device cannot render is not taken in; before an engine
        has told what it can, everything of the preset is.
        """
        engines = [one for one in self._host.engines.all() if one.preset == spec.preset]
        resolutions = {name for engine in engines for name in engine.resolutions}
        if resolutions and spec.resolution not in resolutions:
            raise InvalidField(
                f"The memory here holds windows of {', '.join(sorted(resolutions))}, "
                f"not of {spec.resolution}.",
                field="resolution",
            )
        if voices > max((engine.speakers or voices for engine in engines), default=voices):
            raise one_speaker_only(spec.preset, self._settings)

    def _describe(self, job: Job) -> dict[str, Any]:
        ahead = self._host.queue.position(job)
        eta_s = None if ahead is None else self._pace.eta_s(job.seconds, ahead)
        deliveries = self._host.outbox.states(job.id)
        return describe(job, ahead=ahead, waiting_eta_s=eta_s, deliveries=deliveries)

    def _cancel(self, job: Job) -> Job:
        while not job.status.is_terminal:
            canceled = cancel(job, self._clock())
            if self._host.store.replace(job, canceled):
                journal.record(canceled)
                self._host.queue.withdraw(canceled)
                return canceled
            job = self._host.store.get(job.id)
        return job

    def _retry(self, job: Job, caller: Caller) -> Job:
        self._refuse_early(caller)
        if not self._is_repeated(caller):
            check_consent(job.consent, self._settings)
            self._check_abilities(job.spec, job.voices)
            self._check_budget(caller, job.seconds)
        with self._host.blobs.staging() as folder:
            staged = JobFolder(folder / "job")
            self._host.blobs.copy_input(job.id, staged)
            return self._enqueue(self._again(folder.name, job, caller), staged, {})

    def _again(self, job_id: str, job: Job, caller: Caller) -> Job:
        return Job(
            id=job_id,
            spec=job.spec,
            seconds=job.seconds,
            voices=job.voices,
            created_at=self._clock(),
            owner=caller.owner,
            request_id=caller.request_id,
            fingerprint=f"retry of {job.id}",
            idempotency_key=caller.idempotency_key,
            retry_of=job.id,
            consent=job.consent,
        )

    def _erase(self, job: Job) -> None:
        ended = self._cancel(job)
        host = self._host
        retention.expire(ended, host.store, host.blobs, host.outbox, self._clock())
