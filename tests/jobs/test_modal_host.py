"""The jobs of a fleet as a whole: what one container leaves, another one finds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.config import Settings
from infinitetalk.errors import JobNotFound, NotReady, WeightsMissing
from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.model import Usage, complete, start
from infinitetalk.jobs.outbox import Kind, State
from infinitetalk.jobs.retention import REMEMBER_S
from tests.jobs.contract import ended, put, staged
from tests.jobs.fleet_containers import Containers
from tests.jobs.records import DAY_S, ENOUGH, NOW, VIDEO, FakeClock, a_job
from tests.modal_control_plane.plane import ControlPlane

ENGINE = Engine("0", EngineState.READY, 1, NOW, "tiny")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def containers(plane: ControlPlane, tmp_path: Path, clock: FakeClock) -> Containers:
    return Containers(plane, tmp_path, clock)


def test_everything_of_a_fleet_is_seen_by_all_its_containers(
    containers: Containers, clock: FakeClock
) -> None:
    one = containers.open("one")
    job = one.store.add(a_job(), limit=ENOUGH)
    with one.blobs.staging() as folder:
        one.blobs.adopt(staged(folder), job.id)
    one.outbox.promise(job.id, Kind.UPLOAD, "https://example.com")
    one.engines.post(ENGINE)
    one.queue.enqueue(job)
    clock.now += 9
    another = containers.open("another")
    assert another.store.find() == [job]
    assert (another.queue.position(job), another.queue.oldest_s()) == (0, 9.0)
    assert list(another.blobs.ids()) == [job.id]
    assert another.outbox.states(job.id) == {Kind.UPLOAD: State.WAITING}
    assert another.engines.all() == [ENGINE]
    another.queue.enqueue(job)
    assert containers.calls.of(job.id) == ["fc-1"]
    for host in (one, another):
        host.close()


def test_what_jobs_used_is_counted_over_all_containers(containers: Containers) -> None:
    one, another = containers.open("one"), containers.open("another")
    job = one.store.add(a_job(), limit=ENOUGH)
    leased = put(one.store, job, start(job, "fc-1", NOW))
    put(one.store, leased, complete(leased, VIDEO, Usage(gpu_seconds=2.5), NOW + 9))
    assert another.totals() == one.totals()
    assert 2.5 in another.totals().values()


def test_a_job_over_its_time_loses_its_files_and_later_its_row(containers: Containers) -> None:
    host, settings = containers.open("one"), Settings(retention_hours=24)
    job = ended(host.store)
    with host.blobs.staging() as folder:
        host.blobs.adopt(staged(folder), job.id)
    assert host.sweep(settings, NOW + DAY_S - 1) == 0
    assert list(host.blobs.ids()) == [job.id]
    assert host.sweep(settings, NOW + DAY_S + 1) == 1
    assert list(host.blobs.ids()) == []
    assert host.store.get(job.id).erased_at == NOW + DAY_S + 1
    host.sweep(settings, NOW + DAY_S + REMEMBER_S + 2)
    with pytest.raises(JobNotFound):
        host.store.get(job.id)


def test_engines_that_were_killed_long_ago_are_swept_away(
    containers: Containers, clock: FakeClock
) -> None:
    host = containers.open("one")
    host.engines.post(ENGINE)
    clock.now += DAY_S
    host.engines.post(replace(ENGINE, slot="1"))
    host.sweep(Settings(), clock.now)
    clock.now -= DAY_S
    assert [engine.slot for engine in host.engines.all()] == ["1"]


def test_no_job_is_taken_in_when_no_engine_can_start(containers: Containers) -> None:
    host = containers.open("one")
    host.require_engine()
    host.engines.post(replace(ENGINE, state=EngineState.FAILED, error="device_too_small"))
    with pytest.raises(NotReady, match="device_too_small"):
        host.require_engine()


def test_no_job_is_taken_in_without_weights(containers: Containers) -> None:
    def refuse() -> None:
        raise WeightsMissing("Prepare them.")

    host = replace(containers.open("one"), require_weights=refuse)
    host.engines.post(ENGINE)
    with pytest.raises(WeightsMissing, match="Prepare them"):
        host.require_engine()
