"""One user's way to a video while it lasts."""

import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loadtest.journeys import Journey


class NoVideo(Exception):
    """A user did not get a video; the text says at which step."""


@dataclass(slots=True)
class Trip:
    """One journey while it lasts."""

    is_first: bool
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # Idempotency-Key
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    is_refused: bool = False  # for certain there is no job
    task_id: str | None = None
    status: dict[str, Any] | None = None  # once the job has ended
    submit_s: float | None = None
    size_bytes: int = 0
    failure: NoVideo | None = None

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.clock

    def journey(self) -> Journey:
        status = self.status or {}
        started = status.get("executed_at")
        return Journey(
            started_at=self.started_at,
            total_s=self.elapsed_s,
            submit_s=self.submit_s,
            wait_s=_seconds_between(status["created_at"], started) if started else None,
            cost_usd=status.get("cost_usd", 0.0),
            is_first=self.is_first,
            failure="" if self.failure is None else str(self.failure),
        )

    @property
    def is_billed(self) -> bool:
        """Whether it is known what the job costs."""
        return self.is_refused or self.status is not None


def _seconds_between(earlier: str, later: str) -> float:
    """Of two of the server's times."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
