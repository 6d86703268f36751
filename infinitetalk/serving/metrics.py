"""Prometheus metrics of the job layer, computed from the store when they are asked for.

Totals are the store's own, so they survive restarts and are the same on every worker. Labels are
names of ours only: states, error codes, stages, slots.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from infinitetalk.jobs.engines import EngineState
from infinitetalk.jobs.host import Host
from infinitetalk.jobs.model import Status
from infinitetalk.jobs.tally import Key

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "infinitetalk_"
RECENT_S = 600.0
MOST_RECENT = 200  # jobs; a host does not finish more in that time

_TOTALS = {  # name of the tally -> (name of the metric, what it is)
    "gpu_seconds": ("gpu_seconds", "Seconds that engines worked on jobs that have ended"),
    "cost_usd": ("cost_usd", "US dollars that jobs which have ended have cost"),
    "windows": ("windows", "Windows of finished videos"),
    "video_seconds": ("video_seconds", "Seconds of finished videos"),
}


def metrics_text(host: Host, now: float) -> str:
    """All metrics of a host in the text format; `now` in seconds since 1970, UTC."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_HostCollector(host, now))
    return generate_latest(registry).decode()


class _HostCollector(Collector):
    """Reads one host's store."""

    def __init__(self, host: Host, now: float) -> None:
        self._host = host
        self._now = now

    def collect(self) -> Iterable[Metric]:
        counts = self._host.store.counts(Status.PENDING, Status.IN_PROGRESS)
        totals = self._host.totals()
        yield _ended(totals)
        yield _stages(totals)
        yield from _sums(totals)
        yield _gauge("queue_depth", "Jobs that wait", counts[Status.PENDING])
        yield _gauge("jobs_running", "Jobs that are being rendered", counts[Status.IN_PROGRESS])
        age_s = self._host.queue.oldest_s()
        yield _gauge("queue_age_seconds", "How long the first waiting job has waited", age_s)
        pace = self._windows_per_minute()
        yield _gauge("windows_per_minute", "Windows of videos finished in ten minutes", pace)
        yield _gauge("free_disk_bytes", "Free disk for jobs", self._host.blobs.free_bytes())
        yield self._engines()

    def _windows_per_minute(self) -> float:
        """Of the videos that were finished lately."""
        finished = self._host.store.recent(Status.COMPLETED, MOST_RECENT)
        lately = [job for job in finished if self._now - (job.completed_at or 0.0) < RECENT_S]
        return sum(job.result.windows for job in lately if job.result) / (RECENT_S / 60)

    def _engines(self) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}engine_ready", "1 when the engine takes jobs", labels=("slot",)
        )
        for engine in self._host.engines.all():
            family.add_metric((engine.slot,), engine.state is EngineState.READY)
        return family


def _ended(totals: Mapping[Key, float]) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}jobs", "Jobs that have ended", labels=("outcome", "code")
    )
    for (what, kind), total in totals.items():
        if what == "jobs":
            outcome, _, code = kind.partition("/")
            family.add_metric((outcome, code), total)
    return family


def _stages(totals: Mapping[Key, float]) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}stage_seconds", "Seconds in each stage of ended jobs", labels=("stage",)
    )
    for (what, kind), total in totals.items():
        if what == "stage_seconds":
            family.add_metric((kind,), total)
    return family


def _sums(totals: Mapping[Key, float]) -> Iterable[Metric]:
    for what, (name, meaning) in _TOTALS.items():
        yield CounterMetricFamily(f"{PREFIX}{name}", meaning, value=totals.get((what, ""), 0.0))


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", meaning, value=value)
