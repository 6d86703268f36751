"""Which prepared weights a deployment loads: the first ones that fit into the device's memory.

    <weights folder>/<name>/manifest.json       any name; the manifest says what is in it

Those of `tiny` and `demo` are written on first use; the others are prepared beforehand.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from infinitetalk.config import Settings
from infinitetalk.errors import DeviceTooSmall, WeightsMissing
from infinitetalk.spec import PRESETS, Preset
from infinitetalk.weights.device_memory import Memory
from infinitetalk.weights.footprint import Footprint
from infinitetalk.weights.memory_plan import MemoryPlan, in_gib, plan_largest
from infinitetalk.weights.model_config import read_model_config, released_config
from infinitetalk.weights.prepared import BF16, FP8, MANIFEST, Manifest, read_manifest
from infinitetalk.weights.selection import Wish, find_weights
from infinitetalk.weights.synthetic import folder_name, model_config, write_synthetic
from infinitetalk.weights.text_placement import TextPlacement


@dataclass(frozen=True, slots=True)
class Located:
    """Prepared weights, and how they are to lie in memory."""

    folder: Path
    manifest: Manifest
    plan: MemoryPlan


def choose_weights(preset: str, settings: Settings, device: torch.device, free: Memory) -> Located:
    """The best prepared weights of a preset that fit.

    Raises:
        WeightsMissing: nobody has prepared any, or they cannot be written.
        WeightsCorrupt: they are not of this version.
        DeviceTooSmall: none fit.
    """
    for folder, manifest in locate_weights(preset, settings).items():
        model = _footprint(folder, manifest, settings, device)
        plan = plan_largest(model, free, settings.text_encoder)
        if plan.fits:
            return Located(folder, manifest, plan)
    raise DeviceTooSmall(_too_small(plan, settings))


def foresee(preset: Preset, settings: Settings, device: torch.device, free: Memory) -> Footprint:
    """What would be loaded of a preset; where nothing is prepared, of what could be.

    Raises:
        WeightsCorrupt: what is prepared is not of this version.
    """
    models = _foreseeable(preset, settings, device)
    fitting = (m for m in models if plan_largest(m, free, settings.text_encoder).fits)
    return next(fitting, models[-1])


def choose_arithmetic(precision: str, device: torch.device) -> torch.dtype:
    """What is computed in: bfloat16 on a GPU, float32 on a CPU, unless the setting names it."""
    named = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    on_device = torch.bfloat16 if device.type == "cuda" else torch.float32
    return named.get(precision, on_device)


def locate_weights(preset: str, settings: Settings) -> dict[Path, Manifest]:
    """The prepared folders of a preset, best first; that of a bundled one is written if need be.

    Raises:
        WeightsMissing: nobody has prepared one, or the folder cannot be written.
    """
    if not PRESETS[preset].is_bundled:
        return find_weights(preset, settings)
    precision = Wish.of(settings).precision or BF16
    folder = settings.bundled_folder / folder_name(preset, precision)
    if not (folder / MANIFEST).exists():
        try:
            write_synthetic(preset, folder, precision)
        except OSError as error:
            raise WeightsMissing(
                f"The weights of {preset} cannot be written to {settings.bundled_folder}."
            ) from error
    return {folder: read_manifest(folder)}


def _foreseeable(preset: Preset, settings: Settings, device: torch.device) -> list[Footprint]:
    wanted = Wish.of(settings).precision
    arithmetic = choose_arithmetic(settings.precision, device)
    if preset.is_bundled:
        config = model_config(preset.name)
        return [Footprint(preset, config, wanted or BF16, arithmetic, device)]
    try:
        found = find_weights(preset.name, settings)
        return [_footprint(*item, settings, device) for item in found.items()]
    except WeightsMissing:
        precisions = (wanted,) if wanted else (BF16, FP8)
        config = released_config()
        return [Footprint(preset, config, p, arithmetic, device) for p in precisions]


def _footprint(
    folder: Path, manifest: Manifest, settings: Settings, device: torch.device
) -> Footprint:
    return Footprint(
        preset=PRESETS[manifest.preset],
        config=read_model_config(folder),
        precision=manifest.precision,
        arithmetic=choose_arithmetic(settings.precision, device),
        device=device,
    )


def _too_small(plan: MemoryPlan, settings: Settings) -> str:
    """What is needed and there, and what would help."""
    where = f"{in_gib(plan.needed)} of device memory"
    there = in_gib(plan.free.device)
    if plan.needed <= plan.free.device:
        where, there = f"{in_gib(plan.on_host)} of the CPU's memory", in_gib(plan.free.host)
    return (
        f"The preset {plan.preset} in {plan.precision} needs {where} at {plan.resolution}, "
        f"and {there} are free. {_help(plan, settings)}"
    )


def _help(plan: MemoryPlan, settings: Settings) -> str:
    ways = []
    if plan.precision != FP8 and not PRESETS[plan.preset].is_bundled:
        command = f"infinitetalk weights prepare --preset {plan.preset} --precision {FP8}"
        ways.append(f"weights in fp8 (`{command}`)")
    if plan.is_forced and plan.text_encoder is not TextPlacement.CPU:
        ways.append("INFINITETALK_TEXT_ENCODER=auto")
    if settings.memory_gigabytes is not None:
        ways.append("a larger INFINITETALK_MEMORY_GIGABYTES")
    ways.append("another GPU, or the preset demo")
    return f"What would help: {', '.join(ways)}."
