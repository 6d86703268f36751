"""Which preset a deployment runs when the setting says `auto`. Needs no torch itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from infinitetalk.config import Settings
from infinitetalk.weights.prepared import Manifest, prepared_folders

FitsGpu = Callable[[Manifest, Settings], bool]
"""Whether a GPU of this machine holds prepared weights; `runner.fits_gpu` knows."""


@dataclass(frozen=True, slots=True)
class PresetChoice:
    """A preset, and why it is no better one."""

    preset: str
    reason: str | None = None


def choose_preset(settings: Settings, fits_gpu: FitsGpu) -> PresetChoice:
    """`standard` where its prepared weights and a GPU that holds them are, else `demo`."""
    if settings.preset != "auto":
        return PresetChoice(settings.preset)
    standard = _standard(settings)
    if not standard:
        where = settings.weights_folder
        return PresetChoice("demo", f"no prepared weights of the full model are in {where}")
    if any(fits_gpu(manifest, settings) for manifest in standard):
        return PresetChoice("standard")
    return PresetChoice("demo", "there is no GPU that holds the full model")


def ask_preset(settings: Settings) -> PresetChoice:
    """The same, the GPU being looked at by a process of its own that loads torch for it."""
    if settings.preset != "auto" or not _standard(settings):
        return choose_preset(settings, lambda *_: False)
    command = [sys.executable, "-m", "infinitetalk.cli", "doctor", "--preset"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return PresetChoice(**json.loads(answer))


def _standard(settings: Settings) -> list[Manifest]:
    prepared = prepared_folders(settings.weights_folder).values()
    return [manifest for manifest in prepared if manifest.preset == "standard"]
