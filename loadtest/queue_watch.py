"""How long the queue was, second by second, while the load was on."""

import csv
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from infinitetalk.client import Client, Patience
from infinitetalk.errors import InfiniteTalkError

PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Depth:
    """One look at the queue."""

    at: float  # seconds since 1970, UTC
    pending: int
    in_progress: int


class QueueWatch:
    """Looks at /v1/queue in a thread of its own, for as long as the `with` block lasts."""

    def __init__(self, host: str, headers: Mapping[str, str]) -> None:
        self.depths: list[Depth] = []
        self._client = Client(host, headers=headers, timeout_s=5.0, patience=Patience(0))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def save(self, path: Path) -> None:
        """Write what was seen as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [item.name for item in fields(Depth)])
            writer.writeheader()
            writer.writerows(map(asdict, self.depths))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        while True:
            self._look()
            if self._ended.wait(PERIOD_S):
                return

    def _look(self) -> None:
        try:
            queue = self._client.queue()
        except InfiniteTalkError:
            return  # one look less; Locust counts what fails
        self.depths.append(Depth(time.time(), queue["pending"], queue["in_progress"]))
