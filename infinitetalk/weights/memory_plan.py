"""Whether a model fits into a device's memory, and how it is arranged so that it does.

    weights + window <= free    pictures decoded: whole, in 2 x 2 tiles, in 3 x 3
                                text encoder: on the device, on the CPU, on the device in fp8

Everything else stays on the device. A deployment is planned for the largest resolution that fits
in one of these ways; tiles, which cost least, are tried before the text encoder is moved. Pure
arithmetic: what is free is an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from infinitetalk.spec import PRESETS
from infinitetalk.weights.device_memory import GIB, Memory
from infinitetalk.weights.footprint import Footprint, largest
from infinitetalk.weights.text_placement import TextPlacement

TILES = (1, 2, 3)
"""Rows and columns in which pictures may be decoded."""

_PLACES = {
    TextPlacement.DEVICE: "everything resident",
    TextPlacement.DEVICE_FP8: "text encoder in fp8",
    TextPlacement.CPU: "text encoder on the CPU",
}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One preset at one resolution on one device; sizes in bytes."""

    preset: str
    precision: str
    resolution: str
    text_encoder: TextPlacement
    weights: int
    window: int
    on_host: int
    free: Memory
    tiles: int = 1  # rows and columns in which pictures are decoded
    is_forced: bool = False  # the settings name the place of the text encoder
    instead_of: int | None = None  # what would be needed with it on the device

    @property
    def needed(self) -> int:
        """On the device."""
        return self.weights + self.window

    @property
    def fits(self) -> bool:
        return self.needed <= self.free.device and self.on_host <= self.free.host

    @property
    def sentence(self) -> str:
        """Where the text encoder is and why, what is needed, and whether it fits."""
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"{self.precision}, {_PLACES[self.text_encoder]}{self._tiling}{self._reason}: "
            f"{in_gib(self.weights)} of weights and about {in_gib(self.window)} for a window; "
            f"{verdict} in {in_gib(self.free.device)}"
        )

    @property
    def _tiling(self) -> str:
        return "" if self.tiles == 1 else f", pictures decoded in {self.tiles} x {self.tiles} tiles"

    @property
    def _reason(self) -> str:
        if self.is_forced:
            return ", as set"
        if self.instead_of is None:
            return ""
        return f" (else it would need {in_gib(self.instead_of)})"

    def holds(self, resolution: str) -> bool:
        """Whether there is room for windows of this resolution too."""
        buckets = PRESETS[self.preset].buckets
        return largest(buckets[resolution]) <= largest(buckets[self.resolution])


def plan_largest(model: Footprint, free: Memory, text_encoder: str = "auto") -> MemoryPlan:
    """The plan for the largest resolution that fits; for the smallest one if none does."""
    buckets = model.preset.buckets
    for resolution in sorted(buckets, key=lambda name: largest(buckets[name]), reverse=True):
        plan = plan_memory(model, resolution, free, text_encoder)
        if plan.fits:
            break
    return plan


def plan_memory(
    model: Footprint, resolution: str, free: Memory, text_encoder: str = "auto"
) -> MemoryPlan:
    """The plan for a resolution: the first place of the text encoder, and tiles, that leave room.

    Where there are none, it is the plan that needs least of the device.

    Args:
        text_encoder: "auto", or the one place that may be tried.
    """
    is_forced = text_encoder != "auto"
    plans = [
        _plan(model, resolution, free, place, tiles, is_forced=is_forced)
        for place, tiles in product(_places(text_encoder, model.device), TILES)
    ]
    best = next((plan for plan in plans if plan.fits), min(plans, key=lambda plan: plan.needed))
    return best if best is plans[0] else replace(best, instead_of=plans[0].needed)


def _plan(
    model: Footprint,
    resolution: str,
    free: Memory,
    place: TextPlacement,
    tiles: int,
    *,
    is_forced: bool,
) -> MemoryPlan:
    text = model.text_encoder(place)
    return MemoryPlan(
        preset=model.preset.name,
        precision=model.precision,
        resolution=resolution,
        text_encoder=place,
        weights=model.resident + text.device,
        window=model.window(resolution, tiles),
        on_host=text.host,
        free=free,
        tiles=tiles,
        is_forced=is_forced,
    )


def in_gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _places(text_encoder: str, device: torch.device) -> Sequence[TextPlacement]:
    if text_encoder != "auto":
        return (TextPlacement(text_encoder),)
    return tuple(TextPlacement) if device.type == "cuda" else (TextPlacement.DEVICE,)
