"""Containers of a fleet on a control plane, whose calls are scripted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import modal

from infinitetalk.jobs.modal_host import ModalHost
from tests.jobs.scripted_calls import ScriptedCalls
from tests.modal_control_plane.plane import ControlPlane


class Containers:
    """Opens the fleet's jobs as another container sees them, each time."""

    def __init__(self, plane: ControlPlane, disks: Path, clock: Callable[[], float]) -> None:
        self._client = plane.client()
        self._disks = disks
        self._clock = clock
        self.calls = ScriptedCalls()

    def open(self, name: str, **options: Any) -> ModalHost:
        scratch = self._disks / name
        scratch.mkdir()
        return ModalHost.open(
            self.volume("outputs"),
            self.calls,
            scratch,
            clock=self._clock,
            client=self._client,
            **options,
        )

    def volume(self, name: str) -> modal.Volume:
        volume = modal.Volume.from_name(
            name, create_if_missing=True, version=2, client=self._client
        )
        return volume.hydrate()
