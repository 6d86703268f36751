"""The model of a deployment, loaded as its engine loads it, with the time that takes.

Its attention is chosen and its blocks are compiled too. Encoded prompts are not kept: the text
encoder is part of what is to be proved.
"""

from dataclasses import dataclass

import torch

from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.acceptance.report import Figure, Verdict
from infinitetalk.config import Settings
from infinitetalk.runner import Runner
from infinitetalk.weights.device_memory import free_memory, limit_memory
from infinitetalk.weights.load import Model, load_model
from infinitetalk.weights.locate import Located, choose_arithmetic, choose_weights
from infinitetalk.weights.prepared import verify


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, the runner of its jobs, and what loading took."""

    model: Model
    runner: Runner
    size_bytes: int  # of the networks' files
    verifying_s: float  # next to nothing where the hashes were found right before
    reading_s: float
    preparing_s: float  # attention backends measured, blocks compiled
    since_start_s: float  # from the start of the process to here

    @property
    def verdict(self) -> Verdict:
        size = self.size_bytes / 1e9
        speed = size / self.reading_s
        return Verdict(True, f"{size:.3g} GB in {self.reading_s:.3g} s, {speed:.2g} GB/s")

    @property
    def figures(self) -> tuple[Figure, ...]:
        return (
            Figure("loaded_after", self.since_start_s, "s"),
            Figure("loading.verify", self.verifying_s, "s"),
            Figure("loading.read", self.reading_s, "s"),
            Figure("loading.prepare", self.preparing_s, "s"),
            Figure("loading.size", self.size_bytes / 1e9, "GB"),
        )


def choose(preset: str, settings: Settings, device: torch.device) -> Located:
    """The weights that this deployment loads.

    Raises:
        WeightsMissing, WeightsCorrupt: there are no good prepared weights.
        DeviceTooSmall: none fit.
    """
    limit_memory(device, settings.memory_gigabytes)
    return choose_weights(preset, settings, device, free_memory(device, settings.memory_gigabytes))


def load(
    weights: Located, settings: Settings, device: torch.device, started: float, clock: Clock
) -> Loaded:
    """Load them.

    Args:
        started: when the process did, by `clock`.

    Raises:
        WeightsCorrupt: a file is missing, partial, altered or of another format.
        AttentionUnavailable, CompilerUnavailable: the settings do not fit this machine.
        OutOfMemory: the device has no room.
    """
    began, reading = clock(), _Reading(clock)
    model = load_model(
        weights.folder,
        device,
        choose_arithmetic(settings.precision, device),
        text_encoder=weights.plan.text_encoder,
        stamps=settings.stamps_folder,
        on_progress=reading.note,
    )
    read = clock()
    runner = Runner.of(model, weights, settings)
    now = clock()
    return Loaded(
        model,
        runner,
        reading.size,
        verifying_s=reading.began - began,
        reading_s=read - reading.began,
        preparing_s=now - read,
        since_start_s=now - started,
    )


class _Reading:
    """How many bytes are read, and since when: the hashes are seen to before that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sizes: dict[str, int] = {}
        self.began = 0.0

    def note(self, network: str, done: int, total: int) -> None:
        if not self._sizes:
            self.began = self._clock()
        self._sizes[network] = total

    @property
    def size(self) -> int:
        return sum(self._sizes.values())


def verify_all(weights: Located, settings: Settings) -> Verdict:
    """Hash every file again, whatever was noted before.

    Raises:
        WeightsCorrupt: names the file that is missing, partial or altered.
    """
    verify(weights.folder, weights.manifest, stamps=settings.stamps_folder, deep=True)
    files = weights.manifest.files.values()
    size = sum(entry.size for entry in files) / 1e9
    return Verdict(True, f"{len(files)} files, {size:.3g} GB, every hash is right")
