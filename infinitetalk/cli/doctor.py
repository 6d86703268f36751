"""Look at this machine: devices, attention backends, weights, ffmpeg, disk, memory plan."""

import argparse
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import imageio_ffmpeg
from rich.console import Console
from rich.table import Table

from infinitetalk import __version__
from infinitetalk.config import Settings, load_settings
from infinitetalk.preset_choice import choose_preset
from infinitetalk.spec import PRESETS
from infinitetalk.weights.prepared import prepared_folders

Row = tuple[str, str, str]
"""(what, state, detail)"""

MIN_FREE_GB = 2.0  # less, and a long job may not end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk doctor`."""
    parser.add_argument(
        "--preset", action="store_true", help="print only, as JSON, which preset `auto` is here"
    )


def run(options: argparse.Namespace) -> int:
    """Print the table; 0 when the machine can render with some preset, 3 when not."""
    settings = load_settings()
    if options.preset:
        from infinitetalk.runner import fits_gpu

        print(json.dumps(asdict(choose_preset(settings, fits_gpu))))
        return 0
    rows = [*_software(), *_devices(), *_weights(settings), *_ffmpeg(), *_disk(settings)]
    rows += _memory(settings)
    table = Table("what", "state", "detail", title=f"infinitetalk {__version__}")
    for what, state, detail in rows:
        colour = {"ok": "green", "missing": "yellow", "bad": "red"}[state]
        table.add_row(what, f"[{colour}]{state}[/]", detail)
    Console().print(table)
    return 3 if any(state == "bad" for _, state, _ in rows) else 0


def _software() -> Iterator[Row]:
    import torch

    yield "python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield "torch", "ok", torch.__version__


def _devices() -> Iterator[Row]:
    import torch

    from infinitetalk.models.attention import BACKENDS, unavailable_reason

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for name in names:
        yield f"device {name}", "ok", _device_detail(name)
    device = torch.device(names[-1])
    for backend in BACKENDS:
        reason = unavailable_reason(backend, device)
        yield (
            f"attention {backend}",
            "ok" if reason is None else "missing",
            reason or f"on {device}",
        )


def _device_detail(name: str) -> str:
    import torch

    if name == "cpu":
        return f"{torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(name)
    return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"


def _weights(settings: Settings) -> Iterator[Row]:
    prepared = prepared_folders(settings.weights_folder) | prepared_folders(settings.bundled_folder)
    for preset in PRESETS.values():
        found = [folder for folder, manifest in prepared.items() if manifest.preset == preset.name]
        if found:
            size = sum(path.stat().st_size for path in found[0].iterdir()) / 1e9
            yield f"preset {preset.name}", "ok", f"{preset.use}; {size:.2f} GB in {found[0]}"
        elif preset.is_bundled:
            yield f"preset {preset.name}", "ok", f"{preset.use}; made at first use"
        else:
            where = settings.weights_folder
            yield f"preset {preset.name}", "missing", f"{preset.use}; no weights in {where}"


def _ffmpeg() -> Iterator[Row]:
    try:
        yield "ffmpeg", "ok", str(imageio_ffmpeg.get_ffmpeg_version())
    except (RuntimeError, OSError) as error:
        yield "ffmpeg", "bad", f"cannot be started: {error}"


def _disk(settings: Settings) -> Iterator[Row]:
    for what, folder in (("disk of home", settings.home), ("disk here", Path.cwd())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            yield what, "bad", f"{folder} cannot be written"
            continue
        free = shutil.disk_usage(existing).free / 1e9
        state = "ok" if free >= MIN_FREE_GB else "bad"
        yield what, state, f"{free:.0f} GB free in {existing}"


def _memory(settings: Settings) -> Iterator[Row]:
    from infinitetalk.runner import choose_device, choose_precision
    from infinitetalk.weights.memory_plan import plan_memory

    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    for preset in PRESETS:
        plan = plan_memory(preset, precision, device)
        yield f"memory {preset}", "ok" if plan.fits else "missing", plan.sentence
