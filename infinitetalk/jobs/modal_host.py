"""The jobs of a fleet as every container of it sees them, and the chores that nobody else does.

rows          modal_store     three Dicts
files         modal_blobs     a Volume
queue         modal_queue     calls of the GPU function
deliveries    modal_board     a Dict
engines       modal_board     a Dict
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import modal

from infinitetalk.config import Settings
from infinitetalk.jobs import retention
from infinitetalk.jobs.engines import require_engine
from infinitetalk.jobs.modal_blobs import VolumeBlobStore
from infinitetalk.jobs.modal_board import ModalEngineBoard, ModalOutbox
from infinitetalk.jobs.modal_calls import Calls
from infinitetalk.jobs.modal_queue import ModalQueue
from infinitetalk.jobs.modal_store import ModalJobStore
from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.modal_tally import ModalTallies
from infinitetalk.jobs.model import Clock
from infinitetalk.jobs.retention import Retention
from infinitetalk.jobs.tally import Key

PREFIX = "infinitetalk-"
LOOK_S = 1.0  # a look is a request to Modal


@dataclass(frozen=True, slots=True)
class ModalHost:
    """Everything that gateway, intake and engines of a fleet share."""

    store: ModalJobStore
    queue: ModalQueue
    blobs: VolumeBlobStore
    outbox: ModalOutbox
    engines: ModalEngineBoard
    tallies: ModalTallies
    calls: Calls
    require_weights: Callable[[], None]  # raises WeightsMissing
    look_s: float = LOOK_S

    @classmethod
    def open(
        cls,
        outputs: modal.Volume,
        calls: Calls,
        scratch: Path,
        *,
        require_weights: Callable[[], None] = lambda: None,
        clock: Clock = time.time,
        client: modal.Client | None = None,
    ) -> Self:
        """
        Args:
            outputs: where the files of jobs are.
            scratch: a local folder for this process.
            require_weights: asked before a job is taken in.
        """

        def entries(name: str) -> modal.Dict:
            name = f"{PREFIX}{name}"
            return modal.Dict.from_name(name, create_if_missing=True, client=client)

        jobs = entries("jobs")
        store = ModalJobStore(jobs, entries("jobs-open"), entries("jobs-ended"))
        return cls(
            store,
            ModalQueue(store, Table(jobs), calls, clock),
            VolumeBlobStore(outputs, scratch),
            ModalOutbox(entries("deliveries"), store),
            ModalEngineBoard(entries("engines"), clock),
            ModalTallies(jobs, store.ended),
            calls,
            require_weights,
        )

    def require_engine(self) -> None:
        self.require_weights()
        require_engine(self.engines)

    def totals(self) -> Mapping[Key, float]:
        return self.tallies.totals()

    def sweep(self, settings: Settings, now: float) -> int:
        """Bring the records in line and delete what is over its time; how many jobs that were."""
        self.store.repair()
        self.engines.clean()
        keep = Retention.of(settings)
        return retention.sweep(self.store, self.blobs, self.outbox, keep, now)

    def close(self) -> None:
        """Nothing is open."""
