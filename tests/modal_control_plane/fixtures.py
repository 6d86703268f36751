"""`pytest_plugins = ["tests.modal_control_plane.fixtures"]` gives a test module a plane."""

from collections.abc import Iterator

import pytest

from tests.modal_control_plane.plane import ControlPlane


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane
