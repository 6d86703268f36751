"""What a fleet does on a schedule: see to its jobs, deliver what is owed, delete what is over."""

import asyncio
import logging
import time
from collections.abc import Callable

from infinitetalk.config import Settings
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.webhook import Courier

PAUSE_S = 2.0  # between two looks at what is due
log = logging.getLogger(__name__)


def tend(host: ModalHost, settings: Settings) -> None:
    """Give jobs whose call was lost another one; try once what is owed."""
    host.queue.tend()
    asyncio.run(_courier(host, settings).deliver_due())


def deliver(
    host: ModalHost,
    settings: Settings,
    job_id: str,
    *,
    within_s: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Bring out what is owed for a job, again and again until it arrived or time is up."""
    courier, ends_at = _courier(host, settings), monotonic() + within_s
    while "waiting" in host.outbox.states(job_id).values() and monotonic() < ends_at:
        asyncio.run(courier.deliver_due())
        sleep(PAUSE_S)


def sweep(host: ModalHost, settings: Settings) -> None:
    """Delete what is over its time or its room, and bring the records in line."""
    log.info("%d jobs were over their time", host.sweep(settings, time.time()))


def _courier(host: ModalHost, settings: Settings) -> Courier:
    fetcher = Fetcher.from_settings(settings)
    return Courier(host, fetcher, settings.webhook_secret, time.time)
