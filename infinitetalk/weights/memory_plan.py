"""Whether a model fits into a device's memory: its weights, and what a window needs on top."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from infinitetalk.spec import PRESETS, Preset
from infinitetalk.weights.convert import COMPONENTS, build
from infinitetalk.weights.load import component_dtypes
from infinitetalk.weights.synthetic import SIZES

GIB = 2**30
# Activations of one forward in widths of a token: the stream, q, k, v, their rotated copies in
# float32 and the feed-forward's inner layer. An estimate, on the high side.
_WIDTHS_PER_TOKEN = 20
_SYNTHETIC_VOCABULARY = 1024


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Memory of one preset on one device, in GiB."""

    preset: str
    weights: float
    working: float
    available: float

    @property
    def fits(self) -> bool:
        return self.weights + self.working <= self.available

    @property
    def sentence(self) -> str:
        need = f"{self.weights:.1f} GiB of weights and about {self.working:.1f} GiB for a window"
        verdict = "fits, everything resident" if self.fits else "does not fit"
        return f"{need}; {verdict} in {self.available:.1f} GiB"


def plan_memory(preset: str, precision: torch.dtype, device: torch.device) -> MemoryPlan:
    """What a preset needs at its default resolution, against all memory of the device."""
    sizes = dict(_parameters(preset))
    dtypes = component_dtypes(precision, device)
    weights = sum(count * dtypes[name].itemsize for name, count in sizes.items()) / GIB
    return MemoryPlan(preset, weights, _working(PRESETS[preset], precision), _available(device))


def _parameters(preset: str) -> Iterator[tuple[str, int]]:
    config = SIZES[preset](_SYNTHETIC_VOCABULARY) if preset in SIZES else None
    for name, component in COMPONENTS.items():
        sizes = component.config() if config is None else getattr(config, name)
        yield name, sum(p.numel() for p in build(name, sizes, "meta").parameters())


def _working(preset: Preset, precision: torch.dtype) -> float:
    height, width = max(
        preset.buckets[preset.default_resolution].values(), key=lambda s: s[0] * s[1]
    )
    tokens = (1 + (preset.window - 1) // 4) * (height // 16) * (width // 16)
    config = SIZES[preset.name](_SYNTHETIC_VOCABULARY) if preset.name in SIZES else None
    dim = config.transformer.dim if config else COMPONENTS["transformer"].config().dim
    pixels = preset.window * height * width * 3 * 4  # float32 frames, and as much to match colours
    return (tokens * dim * _WIDTHS_PER_TOKEN * precision.itemsize + 4 * pixels) / GIB


def _available(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
