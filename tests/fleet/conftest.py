"""A fleet of its own for every test, with calls that are scripted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infinitetalk.jobs.modal_host import ModalHost
from tests.jobs.fleet_containers import Containers
from tests.jobs.records import FakeClock
from tests.modal_control_plane.plane import ControlPlane


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def containers(plane: ControlPlane, tmp_path: Path, clock: FakeClock) -> Containers:
    return Containers(plane, tmp_path, clock)


@pytest.fixture
def host(containers: Containers) -> ModalHost:
    return containers.open("one")
