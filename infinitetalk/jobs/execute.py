"""One attempt at one job: the code that the engine of one host and the fleet's container share.

    render (from the last checkpoint) -> publish the files -> put the ended record into the store

A passing fault gives the job back, bad input fails it, a fault that may have broken the device
ends the process as well: `EngineFault` must not be survived. Whatever happens, a record that was
canceled, erased or leased again meanwhile stays as it is.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from infinitetalk.errors import (
    Canceled,
    InfiniteTalkError,
    InvalidField,
    JobBusy,
    StorageFull,
    StoreBusy,
    WorkerLost,
)
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs import journal
from infinitetalk.jobs.blobs import BlobStore
from infinitetalk.jobs.engines import Loaded
from infinitetalk.jobs.model import (
    Clock,
    Job,
    Problem,
    Usage,
    Video,
    complete,
    fail,
    hand_back,
    lose,
)
from infinitetalk.jobs.store import JobStore
from infinitetalk.progress import Canceling, OnProgress, Progress, Stage
from infinitetalk.spec import GenerationSpec

T = TypeVar("T")
PATIENCE = 10  # times the store's own waiting time
REPORT_S = 0.5
FAULT = Problem.of(WorkerLost("The engine broke down under this job several times."))
BUSY = Problem.of(JobBusy("Another process is at work on this job."))  # and no word of where
BUG = Problem.of(InfiniteTalkError("Something broke that should not."))


class EngineFault(Exception):
    """The process cannot be trusted with another job."""


class Rendering(Protocol):
    """What is known of a finished rendering."""

    @property
    def path(self) -> Path: ...
    @property
    def frames(self) -> int: ...
    @property
    def windows(self) -> int: ...


class Renderer(Loaded, Protocol):
    """A loaded model; `runner.Runner` is the one there is."""

    @property
    def preset(self) -> str: ...

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str],
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Rendering: ...


def execute(
    job: Job,
    store: JobStore,
    blobs: BlobStore,
    renderer: Renderer,
    *,
    price_per_second: float,
    stopping: Callable[[], bool],
    report_s: float = REPORT_S,
    clock: Clock = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Job:
    """Render a leased job; the record as it is afterwards.

    Args:
        stopping: whether this process has to end; asked at every denoising step.
        report_s: moments of one stage are kept no more often than this.

    Raises:
        EngineFault: the attempt is recorded as lost and the process must end.
    """
    attempt = _Attempt(job, store, renderer, price_per_second, stopping, report_s, monotonic)
    if not attempt.owns():  # the same lease is run twice, on hosts that deliver at least once
        return store.get(job.id)
    try:
        _require_preset(job, renderer)
        rendering = renderer.run(
            blobs.folder(job.id),
            job.spec,
            labels=labels_of(job),
            on_progress=attempt.report,
            canceling=attempt.is_over,
        )
        video = _video(rendering)
        _patiently(lambda: blobs.publish(job.id))
        ended = complete(attempt.record, video, attempt.usage, clock())
    except Canceled:
        ended = hand_back(attempt.record)
    except InfiniteTalkError as error:
        problem = BUSY if isinstance(error, JobBusy) else Problem.of(error)
        give_up = lose if error.retryable else fail
        ended = give_up(attempt.record, problem, clock())
    except Exception as error:
        if attempt.owns() or _is_device_fault(error):
            problem = FAULT if _is_device_fault(error) else BUG
            _settle(store, job, lose(attempt.record, problem, clock()))
            raise EngineFault(type(error).__name__) from error
        ended = job  # its files were taken away under it, with the job
    return _settle(store, job, ended)


def labels_of(job: Job) -> dict[str, str]:
    """What the file says of its job: that there is consent, never whose."""
    return {"job": job.id} | ({"consent": "stated"} if job.consent else {})


def _require_preset(job: Job, renderer: Renderer) -> None:
    """A job waits longer than a deployment may stay as it is: other weights need other sizes."""
    if job.spec.preset != renderer.preset:
        raise InvalidField(
            f"The job was taken in for the preset {job.spec.preset}, and this deployment now runs "
            f"{renderer.preset}: submit it again.",
            field="preset",
        )


class _Attempt:
    """Counts what the attempt uses, reports where it is, and knows when to stop."""

    def __init__(
        self,
        job: Job,
        store: JobStore,
        renderer: Renderer,
        price_per_second: float,
        stopping: Callable[[], bool],
        report_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._job = job
        self._store = store
        self._price = price_per_second
        self._stopping = stopping
        self._report_s = report_s
        self._monotonic = monotonic
        self._before = replace(job.usage, attention=renderer.attention, gpu=renderer.gpu)
        self._started = self._since = self._reported = monotonic()
        self._stages = dict(job.usage.stages)
        self._progress: Progress | None = None

    @property
    def usage(self) -> Usage:
        """What the job has used until now, earlier attempts included."""
        now = self._monotonic()
        spent = now - self._started
        stages = {**self._stages, self._stage: self._in_stage(now)}
        fallbacks = self._progress.fallback_windows if self._progress is not None else 0
        return replace(
            self._before,
            gpu_seconds=self._before.gpu_seconds + spent,
            cost_usd=self._before.cost_usd + spent * self._price,
            stages=stages,
            fallback_windows=self._before.fallback_windows + fallbacks,
        )

    @property
    def record(self) -> Job:
        """The leased record with what is known now."""
        return replace(self._job, progress=self._progress, usage=self.usage)

    def report(self, progress: Progress) -> None:
        """Take the next moment; most are not worth a write."""
        now = self._monotonic()
        self._stages[self._stage] = self._in_stage(now)
        self._since = now
        before, self._progress = self._progress, progress
        has_moved = before is None or (before.stage, before.window) != (
            progress.stage,
            progress.window,
        )
        if has_moved or now - self._reported >= self._report_s:
            self._reported = now
            with suppress(StoreBusy, StorageFull):  # a moment is not worth a fault
                self._store.report(self._job, progress, self.usage)

    @property
    def _stage(self) -> Stage:
        return self._progress.stage if self._progress is not None else Stage.PREPARING

    def _in_stage(self, now: float) -> float:
        return self._stages.get(self._stage, 0.0) + now - self._since

    def is_over(self) -> bool:
        """Whether the process has to stop, or the job is not ours any more."""
        return self._stopping() or not self.owns()

    def owns(self) -> bool:
        """Whether nobody took the job away, as far as the store can be asked."""
        try:
            return self._store.is_current(self._job)
        except StoreBusy:
            return True


def _video(rendering: Rendering) -> Video:
    with rendering.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = rendering.path.stat().st_size
    return Video(digest, size, rendering.frames, rendering.windows)


def _settle(store: JobStore, leased: Job, ended: Job) -> Job:
    """Put the ended record into the store, unless the job was taken away from us."""
    if not _patiently(lambda: store.replace(leased, ended)):
        return store.get(leased.id)
    if ended.status.is_terminal:
        journal.record(ended)
    return ended


def _patiently(write: Callable[[], T]) -> T:
    """What was rendered is worth waiting for a busy store."""
    for _ in range(PATIENCE):
        with suppress(StoreBusy):
            return write()
    return write()


def _is_device_fault(error: Exception) -> bool:
    """Whether an error of torch comes from the device; torch itself is not imported here."""
    is_named = any(library in str(error) for library in ("CUDA", "CUDNN", "cuDNN"))
    return is_named or type(error).__name__ == "AcceleratorError"
