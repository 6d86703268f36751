"""What the tests of the client have in common: time that does not pass, answers, a client."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infinitetalk.client import Client, Patience
from tests.scripted_server import said

VIDEO = bytes(range(251)) * 2000
ACCEPTED = said(task_id="t1", status="pending")
DONE = said(
    task_id="t1",
    status="completed",
    error=None,
    video={
        "sha256": hashlib.sha256(VIDEO).hexdigest(),
        "size_bytes": len(VIDEO),
        "frames": 10,
        "windows": 1,
    },
)

Connect = Callable[..., Client]
Files = tuple[Path, Path]


@dataclass
class Pauses:
    """Takes the place of time."""

    taken: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)

    def patience(self, total_s: float = 120.0) -> Patience:
        return Patience(total_s, sleep=self.sleep, chance=lambda low, high: high)
