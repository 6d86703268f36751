"""The HTTP face of a fleet: the service's own routes over the fleet's jobs, with no engine here."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import modal

from infinitetalk.config import Settings
from infinitetalk.errors import WeightsMissing
from infinitetalk.jobs.duty import Duty
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.modal_weights import WeightsOnVolume
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.one_host import Opened, OpenHost
from infinitetalk.serving.remote_intake import Ask, RemoteChecker
from infinitetalk.spec import PRESETS
from infinitetalk.weights.selection import require_weights

TEND_S = 10.0


def stand_before(backend: Backend, host: ModalHost, ask: Ask, scratch: Path) -> None:
    """Make a service's backend the gateway of a fleet; to be called before it opens."""
    backend.use(open_fleet(host, backend.settings, scratch), RemoteChecker(host.blobs, ask))


def open_fleet(host: ModalHost, settings: Settings, scratch: Path) -> OpenHost:
    """The jobs of a fleet. While a gateway runs it sees to them, more often than the schedule."""

    def open_host(preset: str, fetcher: Fetcher) -> Opened:
        tend = Duty("tend", scratch / "tend.lock", host.queue.tend, period_s=TEND_S)
        return Opened(host, settings.gpu_limit, (tend,))

    return open_host


def weights_check(weights: modal.Volume, settings: Settings, copy: Path) -> Callable[[], None]:
    """Whether the deployed preset's weights are prepared, without a GPU and without a mount."""

    if PRESETS[settings.preset].is_bundled:
        return lambda: None

    def check(folder: Path) -> None:
        try:
            require_weights(settings.preset, replace(settings, weights=folder))
        except WeightsMissing as error:
            command = f"modal run modal_deploy.py::prepare_weights --preset {settings.preset}"
            raise WeightsMissing(
                f"The weights of the preset {settings.preset} are not prepared. Run `{command}`."
            ) from error

    return WeightsOnVolume(VolumeFiles(weights), copy, check, time.monotonic).require
