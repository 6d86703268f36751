"""The service before a fleet: its jobs, its checks of media, and whether there are weights."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from infinitetalk.config import Settings
from infinitetalk.errors import AudioTooShort, WeightsMissing
from infinitetalk.fleet.gateway import open_fleet, stand_before, weights_check
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.model import Job, Usage, complete, start
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.check import Answer, answer_of
from infinitetalk.serving.desk import Caller
from infinitetalk.serving.fetch import Fetcher
from tests.jobs.contract import put, staged
from tests.jobs.fleet_containers import Containers
from tests.jobs.records import ENOUGH, NOW, VIDEO, a_job
from tests.modal_control_plane.plane import ControlPlane
from tests.weights.prepared_models import announce

SETTINGS = Settings(preset="tiny", engines=0, gpu_limit=7)
CALLER = Caller("", "r1")


class Intake:
    """The machine that checks media: it takes everything, until it has something against it."""

    def __init__(self, host: ModalHost) -> None:
        self._host = host
        self.error: AudioTooShort | None = None
        self.asked: list[str] = []

    def __call__(self, job_id: str, spec: Mapping[str, Any]) -> Answer:
        self.asked.append(job_id)
        if self.error is not None:
            return answer_of(self.error)
        with self._host.blobs.staging() as folder:
            names = [path.name for path in self._host.blobs.fetch(job_id, folder)]
            assert names == ["audio", "image"]
            self._host.blobs.adopt(staged(folder), job_id)
        return {"seconds": 2.0}


@pytest.fixture
def intake(containers: Containers) -> Intake:
    return Intake(containers.open("intake"))


@pytest.fixture
def gateway(host: ModalHost, intake: Intake, tmp_path: Path) -> Iterator[Backend]:
    with opened(host, intake, tmp_path) as gateway:
        yield gateway


@contextmanager
def opened(host: ModalHost, intake: Intake, folder: Path) -> Iterator[Backend]:
    backend = Backend(replace(SETTINGS, home=folder / "home"))
    stand_before(backend, host, intake, folder)
    backend.open()
    try:
        yield backend
    finally:
        backend.close()


def submit(gateway: Backend, folder: Path) -> Job:
    files = {"image": folder / "face", "audio": folder / "voice"}
    for path in files.values():
        path.write_text("media")
    return asyncio.run(gateway.desk.submit_fields({"prompt": "Hello."}, CALLER, files))


def test_a_job_is_checked_elsewhere_noted_for_all_and_called_for(
    gateway: Backend, containers: Containers, intake: Intake, tmp_path: Path
) -> None:
    assert gateway.is_ready()
    job = submit(gateway, tmp_path)
    another = containers.open("another")
    assert another.store.find() == [job]
    assert (job.seconds, job.spec.prompt, intake.asked) == (2.0, "Hello.", [job.id])
    assert containers.calls.of(job.id) == ["fc-1"]
    assert another.blobs.folder(job.id).picture.exists()


def test_media_that_were_refused_elsewhere_are_no_job(
    gateway: Backend, host: ModalHost, containers: Containers, intake: Intake, tmp_path: Path
) -> None:
    intake.error = AudioTooShort("It is too short.", field="audio")
    with pytest.raises(AudioTooShort, match="It is too short"):
        submit(gateway, tmp_path)
    assert (host.store.find(), list(host.blobs.ids()), containers.calls.made) == ([], [], {})


def test_without_weights_nothing_is_sent_to_be_checked(
    host: ModalHost, intake: Intake, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise WeightsMissing("Prepare them.")

    without = replace(host, require_weights=refuse)
    with opened(without, intake, tmp_path) as gateway, pytest.raises(WeightsMissing):
        submit(gateway, tmp_path)
    assert intake.asked == []


def test_a_waiting_time_counts_on_as_many_engines_as_may_run(
    host: ModalHost, tmp_path: Path
) -> None:
    fetcher = Fetcher.from_settings(SETTINGS)
    assert open_fleet(host, SETTINGS, tmp_path)("tiny", fetcher).engines == SETTINGS.gpu_limit


def test_while_a_gateway_runs_lost_jobs_are_called_for_again(
    host: ModalHost, containers: Containers, intake: Intake, tmp_path: Path
) -> None:
    job = host.store.add(a_job(), limit=ENOUGH)
    host.queue.enqueue(job)
    containers.calls.end("fc-1")
    seen = Event()
    containers.calls.when_asked = lambda call_id: seen.set()
    with opened(host, intake, tmp_path):
        assert seen.wait(30)
    assert containers.calls.of(job.id) == ["fc-1", "fc-2"]


def test_what_the_fleet_did_is_told_by_its_gateway(gateway: Backend, host: ModalHost) -> None:
    job = host.store.add(a_job(), limit=ENOUGH)
    leased = put(host.store, job, start(job, "fc-1", NOW))
    put(host.store, leased, complete(leased, VIDEO, Usage(gpu_seconds=2.5), NOW + 9))
    assert gateway.load()["in_progress"] == 0
    assert "2.5" in gateway.metrics()


# weights


@pytest.fixture
def check(containers: Containers, tmp_path: Path) -> Any:
    volume = containers.volume("models")
    return lambda **wish: weights_check(
        volume, Settings(preset="standard", **wish), tmp_path / "copy"
    )


def test_missing_weights_are_told_with_the_command_that_makes_them(check: Any) -> None:
    with pytest.raises(WeightsMissing) as missing:
        check()()
    command = "modal run modal_deploy.py::prepare_weights --preset standard"
    assert f"`{command}`" in missing.value.message
    assert "/" not in missing.value.message


def test_prepared_weights_are_found_without_a_mount(plane: ControlPlane, check: Any) -> None:
    announce(plane.volumes.folder("models"), "standard", "fp8")
    check()()


@pytest.mark.parametrize("wish", [{"precision": "bfloat16"}, {"speakers": "2"}], ids=str)
def test_weights_of_another_kind_are_missing(
    plane: ControlPlane, check: Any, wish: dict[str, str]
) -> None:
    announce(plane.volumes.folder("models"), "standard", "fp8", speakers=1)
    with pytest.raises(WeightsMissing):
        check(**wish)()


def test_for_a_preset_that_brings_its_weights_nothing_is_asked(
    plane: ControlPlane, containers: Containers, tmp_path: Path
) -> None:
    volume = containers.volume("models")
    before = len(plane.requests)
    weights_check(volume, Settings(preset="demo"), tmp_path)()
    assert len(plane.requests) == before
