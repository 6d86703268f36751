"""The jobs of one host for its HTTP face, and what its servers do beside answering.

Engines, deliveries and retention each run in whichever server process gets their lock first. (A
fleet has its own: there they are functions of the platform.)
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infinitetalk.config import Settings
from infinitetalk.jobs import retention
from infinitetalk.jobs.duty import Duty
from infinitetalk.jobs.host import Host, LocalHost, supervisor_lock
from infinitetalk.jobs.model import Clock
from infinitetalk.jobs.retention import Retention
from infinitetalk.jobs.supervisor import Supervisor, engine_command
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.webhook import Courier

TICK_S = 0.2
DELIVER_S = 1.0
SWEEP_S = 60.0


@dataclass(frozen=True, slots=True)
class Opened:
    """Jobs that can be worked with."""

    host: Host
    engines: int  # jobs that can be rendered at once
    duties: Sequence[Duty] = ()  # not started yet


OpenHost = Callable[[str, Fetcher], Opened]
"""Opens the jobs that are rendered with a preset. Raises Unavailable."""


def open_one_host(settings: Settings, clock: Clock) -> OpenHost:
    """Open the data folder of this host."""

    def open_host(preset: str, fetcher: Fetcher) -> Opened:
        host = LocalHost.open(settings, clock)
        duties = _duties(host, preset, settings, fetcher, clock)
        return Opened(host, max(1, settings.engines), duties)

    return open_host


def _duties(
    host: LocalHost, preset: str, settings: Settings, fetcher: Fetcher, clock: Clock
) -> list[Duty]:
    data = settings.data_folder
    courier = Courier(host, fetcher, settings.webhook_secret, clock)
    retain = Retention.of(settings)

    def deliver() -> None:
        asyncio.run(courier.deliver_due())

    def sweep() -> None:
        retention.sweep(host.store, host.blobs, host.outbox, retain, clock())

    duties = [
        Duty("deliveries", data / "deliveries.lock", deliver, period_s=DELIVER_S),
        Duty("retention", data / "retention.lock", sweep, period_s=SWEEP_S),
    ]
    if settings.engines:
        supervisor = Supervisor(host, settings, engine_command(preset))
        lock = supervisor_lock(data)
        duties.append(
            Duty("engines", lock, supervisor.tick, period_s=TICK_S, at_end=supervisor.close)
        )
    return duties
