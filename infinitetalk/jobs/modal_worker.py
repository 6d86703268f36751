"""One job in a GPU container of the fleet: take it over, work on a local copy, share what is done.

The platform delivers at least once and restarts what crashed or was preempted, with the same call.
So whoever comes takes the job by compare-and-set: a restarted call takes it from its own earlier
attempt, which counts as a loss, a second call leaves it to the first while that lives. An attempt
that was taken over can write nothing any more and stops at its next step.

Files are rendered on the container's disk; finished windows are shared while the next one is
rendered, so that a new container continues after them.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from modal.exception import InputCancellation

from infinitetalk.config import Settings
from infinitetalk.errors import JobNotFound, Unavailable
from infinitetalk.jobs import journal
from infinitetalk.jobs.execute import EngineFault, Renderer, execute
from infinitetalk.jobs.modal_blobs import VolumeBlobStore
from infinitetalk.jobs.modal_calls import Calls, Outcome
from infinitetalk.jobs.modal_queue import LOST, ModalQueue
from infinitetalk.jobs.model import Clock, Job, Status, hand_back, lose, start
from infinitetalk.jobs.pricing import price_per_second
from infinitetalk.jobs.store import JobStore

REPORT_S = 2.0  # a moment is two requests to Modal
SHARE_S = 2.0  # between two looks at what was finished
WATCH_S = 5.0  # between two looks at whether the engine still moves
UNKNOWN = "unknown"
log = logging.getLogger(__name__)


class ModalWorker:
    """Runs the calls of one container, one after another.

    Args:
        renderer: the loaded model.
        on_ended: told of a job that has ended here, to have it delivered.
        end_process: ends this process at once; a broken device must not see another job.
        share_s, watch_s: seconds between two looks, at finished files and at a silent engine.
    """

    def __init__(
        self,
        store: JobStore,
        blobs: VolumeBlobStore,
        queue: ModalQueue,
        calls: Calls,
        renderer: Renderer,
        settings: Settings,
        *,
        on_ended: Callable[[Job], None],
        end_process: Callable[[], None],
        clock: Clock = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        share_s: float = SHARE_S,
        watch_s: float = WATCH_S,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._queue = queue
        self._calls = calls
        self._renderer = renderer
        self._stall_s = settings.stall_seconds
        self._price = price_per_second(renderer.gpu, settings)
        self._on_ended = on_ended
        self._end_process = end_process
        self._clock = clock
        self._monotonic = monotonic
        self._share_s = share_s
        self._watch_s = watch_s

    def run(self, job_id: str, call_id: str) -> str:
        """Run a job until it has ended, or leave it to who has it; the state it is in then.

        Raises:
            KeyboardInterrupt, InputCancellation: the container is taken away; the job waits for
                the next one and has lost no finished window.
        """
        try:
            job = self._take(job_id, call_id)
        except JobNotFound:  # it was erased and forgotten
            return UNKNOWN
        if job.status is not Status.IN_PROGRESS or job.worker != call_id:
            return job.status
        try:
            ended = self._work(job)
        finally:
            self._blobs.release(job_id)
        if ended.attempt != job.attempt:  # taken over: the rest is for the one who has it
            return ended.status
        if ended.status.is_terminal:
            self._on_ended(ended)
        elif ended.status is Status.PENDING:  # a passing fault
            self._queue.call_again(ended)
        return ended.status

    def _take(self, job_id: str, call_id: str) -> Job:
        """The job, now this call's; or as it is, when it has ended or is another call's."""
        while True:
            job = self._store.get(job_id)
            if job.status.is_terminal or self._is_anothers(job, call_id):
                return job
            if job.status is Status.IN_PROGRESS:
                log.warning("job %s was left by an earlier attempt", job_id)
                taken = lose(job, LOST, self._clock())
            else:
                taken = start(job, call_id, self._clock())
            if not self._store.replace(job, taken):
                continue
            if taken.status is Status.IN_PROGRESS:
                return taken
            if taken.status.is_terminal:
                journal.record(taken)
                self._on_ended(taken)

    def _is_anothers(self, job: Job, call_id: str) -> bool:
        if job.status is not Status.IN_PROGRESS or job.worker in (None, call_id):
            return False
        assert job.worker is not None
        return self._calls.outcome(job.worker) is Outcome.RUNNING

    def _work(self, job: Job) -> Job:
        pulse = _Pulse(self._monotonic)
        try:
            with self._watching(pulse), self._sharing(job):
                return execute(
                    job,
                    self._store,
                    self._blobs,
                    self._renderer,
                    price_per_second=self._price,
                    stopping=pulse.beat,
                    report_s=REPORT_S,
                    clock=self._clock,
                    monotonic=self._monotonic,
                )
        except EngineFault:
            log.exception("this container ends: job %s broke its engine", job.id)
            self._end_process()
            raise
        except (KeyboardInterrupt, InputCancellation):
            self._hand_back(job)
            raise

    def _hand_back(self, job: Job) -> None:
        """Put the job into its place again, with what was finished of it; that is no loss."""
        with suppress(Unavailable):
            self._share(job)
        with suppress(Unavailable):
            now = self._store.get(job.id)
            if (now.status, now.attempt) == (Status.IN_PROGRESS, job.attempt):
                self._store.replace(now, hand_back(now))

    @contextmanager
    def _sharing(self, job: Job) -> Iterator[None]:
        """Put finished windows where the next container finds them, while the block runs."""
        over = threading.Event()

        def share() -> None:
            while not over.wait(self._share_s):
                try:
                    self._share(job)
                except Unavailable as error:  # the next turn brings it
                    log.warning("job %s could not be shared: %s", job.id, error.message)

        with _thread(share, over):
            yield

    def _share(self, job: Job) -> None:
        """What an attempt that was taken over has finished must not replace what its heir has."""
        if self._store.is_current(job):
            self._blobs.publish(job.id)

    @contextmanager
    def _watching(self, pulse: "_Pulse") -> Iterator[None]:
        """End the process when a job makes no step for too long: the platform restarts the call."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(self._watch_s):
                if pulse.silent_s() > self._stall_s:
                    log.error("no step for %.0f s: this container ends", pulse.silent_s())
                    self._end_process()

        with _thread(watch, over):
            yield


class _Pulse:
    """When the engine was last heard of: it asks at every step whether it shall stop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard = monotonic()

    def beat(self) -> bool:
        self._heard = self._monotonic()
        return False

    def silent_s(self) -> float:
        return self._monotonic() - self._heard


@contextmanager
def _thread(run: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
