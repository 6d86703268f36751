"""Job records and a clock for tests."""

from itertools import count
from typing import Any

from infinitetalk.errors import InfiniteTalkError
from infinitetalk.jobs.model import Job, Problem, Video
from infinitetalk.progress import Progress, Stage
from infinitetalk.spec import specify

NOW = 1_800_000_000.0  # seconds since 1970, UTC
DAY_S = 86400.0
SPEC = specify("tiny", prompt="a secret wish")
VIDEO = Video(sha256="0" * 64, size_bytes=1000, frames=25, windows=1)
PROBLEM = Problem.of(InfiniteTalkError("It broke."))
STEP = Progress(Stage.DENOISING, window=1, windows=3, step=1, steps=2, fraction=0.1)
ENOUGH = 1000  # jobs that may wait

_numbers = count()


class FakeClock:
    """A clock that stands until it is told otherwise."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_job(**changes: Any) -> Job:
    """A new job that waits."""
    fields: dict[str, Any] = {
        "id": f"{next(_numbers):032x}",
        "spec": SPEC,
        "seconds": 1.0,
        "created_at": NOW,
        **changes,
    }
    return Job(**fields)
