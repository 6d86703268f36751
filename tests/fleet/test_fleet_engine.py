"""What an engine of the fleet says of itself while it loads, and what then runs the jobs."""

import os
from dataclasses import replace
from typing import cast

import pytest

from infinitetalk.config import Settings
from infinitetalk.errors import StoreBusy, WeightsCorrupt
from infinitetalk.fleet.engine import load_engine
from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.execute import Renderer
from infinitetalk.jobs.modal_board import ModalEngineBoard
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.modal_worker import ModalWorker
from infinitetalk.jobs.model import Job, Status
from tests.jobs.contract import staged
from tests.jobs.records import ENOUGH, a_job
from tests.jobs.scripted import ScriptedRenderer


class Loading:
    """What is loaded, and what the fleet knew of it meanwhile."""

    def __init__(self, host: ModalHost, outcome: Renderer | Exception) -> None:
        self._host = host
        self._outcome = outcome
        self.known: list[Engine] = []
        self.told: list[Job] = []

    def run(self) -> ModalWorker:
        settings = Settings(preset="tiny", gpu_price_per_hour=3600.0)
        return load_engine(
            self._host,
            "e1",
            settings,
            self._load,
            on_ended=self.told.append,
            end_process=lambda: pytest.fail("the process was ended"),
        )

    def _load(self) -> Renderer:
        self.known = self._host.engines.all()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def test_an_engine_is_loading_and_then_ready_with_what_it_can_do(host: ModalHost) -> None:
    loading = Loading(host, ScriptedRenderer())
    loading.run()
    (before,), (after,) = loading.known, host.engines.all()
    assert (before.slot, before.state, before.preset) == ("e1", EngineState.LOADING, "tiny")
    assert (before.pid, before.device) == (os.getpid(), None)
    assert after == replace(
        before,
        state=EngineState.READY,
        device="NVIDIA L40S",
        attention="sdpa",
        resolutions=("48p",),
        speakers=2,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(WeightsCorrupt("A file is damaged."), "weights_corrupt"), (OSError("/models"), "internal")],
)
def test_an_engine_that_cannot_load_says_why_and_fails(
    host: ModalHost, error: Exception, code: str
) -> None:
    with pytest.raises(type(error)):
        Loading(host, error).run()
    (told,) = host.engines.all()
    assert (told.state, told.error) == (EngineState.FAILED, code)


class SilentBoard:
    """A board that takes nothing."""

    def post(self, engine: Engine) -> None:
        raise StoreBusy("The job store cannot be reached now, try again later.")

    def all(self) -> list[Engine]:
        return []


def test_an_engine_that_nobody_hears_of_works_all_the_same(host: ModalHost) -> None:
    silent = replace(host, engines=cast(ModalEngineBoard, SilentBoard()))
    job = host.store.add(a_job(), limit=ENOUGH)
    with host.blobs.staging() as folder:
        host.blobs.adopt(staged(folder), job.id)
    loading = Loading(silent, ScriptedRenderer())
    assert loading.run().run(job.id, "fc-1") == "completed"
    row = host.store.get(job.id)
    assert (row.status, loading.told) == (Status.COMPLETED, [row])
    assert row.usage.cost_usd == row.usage.gpu_seconds > 0, "a dollar a second"
