"""How fast jobs run here, measured on the last ones: for Retry-After, ETAs and budgets."""

from infinitetalk.jobs.model import Job, Status
from infinitetalk.jobs.store import JobStore

RECENT = 20  # jobs
UNKNOWN_JOB_S = 30.0  # what is said before the first job ended


class Pace:
    """The measured speed of one host with so many engines."""

    def __init__(self, store: JobStore, engines: int) -> None:
        self._store = store
        self._engines = engines

    def seconds_per_job(self) -> float:
        """How often the queue moves on by one."""
        jobs = self._recent()
        mean_s = _mean([job.usage.gpu_seconds for job in jobs]) or UNKNOWN_JOB_S
        return mean_s / self._engines

    def eta_s(self, seconds: float, ahead: int) -> float | None:
        """Until a video of this length with so many jobs before it is done.

        None before anything was measured.
        """
        jobs = self._recent()
        if not jobs:
            return None
        mean_s = _mean([job.usage.gpu_seconds for job in jobs])
        return ahead / self._engines * mean_s + seconds * mean_s / _mean([j.seconds for j in jobs])

    def usd_per_second(self) -> float | None:
        """US dollars for a second of video; None before anything was measured."""
        jobs = self._recent()
        if not jobs:
            return None
        return _mean([job.usage.cost_usd for job in jobs]) / _mean([job.seconds for job in jobs])

    def _recent(self) -> list[Job]:
        return self._store.recent(Status.COMPLETED, RECENT)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
