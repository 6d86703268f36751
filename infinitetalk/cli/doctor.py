"""Look at this machine: devices, attention backends, weights, ffmpeg, disk, memory plan."""

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import imageio_ffmpeg
from rich.console import Console
from rich.table import Table

from infinitetalk import __version__
from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import WeightsCorrupt
from infinitetalk.preset_choice import choose_preset
from infinitetalk.spec import PRESETS, specify
from infinitetalk.weights.prepared import prepared_folders
from infinitetalk.weights.selection import Wish

Row = tuple[str, str, str]
"""(what, state, detail)"""

MIN_FREE_GB = 2.0  # less, and a long job may not end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk doctor`."""
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--preset", action="store_true", help="print only, as JSON, which preset `auto` is here"
    )
    only.add_argument(
        "--time",
        action="store_true",
        help="load the model, and print only how long it is from the start of this process to the "
        "first denoising step",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table; 0 when the machine can render with some preset, 3 when not."""
    settings = load_settings()
    if options.preset:
        from infinitetalk.runner import why_not_on_gpu

        print(json.dumps(asdict(choose_preset(settings, why_not_on_gpu))))
        return 0
    if options.time:
        Console().print(_start(settings))
        return 0
    rows = [*_software(), *_devices(settings), *_weights(settings), *_ffmpeg(), *_disk(settings)]
    rows += _memory(settings)
    table = Table("what", "state", "detail", title=f"infinitetalk {__version__}")
    for what, state, detail in rows:
        colour = {"ok": "green", "missing": "yellow", "bad": "red"}[state]
        table.add_row(what, f"[{colour}]{state}[/]", detail)
    Console().print(table)
    return 3 if any(state == "bad" for _, state, _ in rows) else 0


def _start(settings: Settings) -> Table:
    """The parts of a start as this deployment makes it; a second one finds what it compiled."""
    from infinitetalk.acceptance.device_clock import device_clock
    from infinitetalk.acceptance.start import process_start, time_start
    from infinitetalk.runner import Runner, choose_device, why_not_on_gpu

    preset = choose_preset(settings, why_not_on_gpu).preset
    clock = device_clock(choose_device(settings.device))
    with tempfile.TemporaryDirectory() as scratch:
        start = time_start(
            lambda on_part: Runner.load(preset, settings, on_part=on_part),
            specify(preset),
            settings,
            Path(scratch) / "job",
            clock,
            process_start(),
        )
    table = Table("part", title=f"start of {preset}", title_justify="left")
    table.add_column("s", justify="right")
    for part in start.parts:
        table.add_row(part.name.replace("_", " "), f"{part.seconds:.2f}")
    table.add_row("to the first step", f"{start.until_first_step:.2f}")
    table.add_row("to its end", f"{start.seconds:.2f}")
    return table


def _software() -> Iterator[Row]:
    import torch

    yield "python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield "torch", "ok", torch.__version__


def _devices(settings: Settings) -> Iterator[Row]:
    import torch

    from infinitetalk.deployed_attention import choices_file
    from infinitetalk.models.attention import BACKENDS, unavailable_reason
    from infinitetalk.models.attention_choice import read_choices

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
    if device.type == "cuda":
        for case, choice in read_choices(choices_file(settings, device)).items():
            yield "attention auto", "ok", f"{case}: {choice}"


def _device_detail(name: str) -> str:
    import torch

    if name == "cpu":
        return f"{torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(name)
    return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"


def _weights(settings: Settings) -> Iterator[Row]:
    prepared = prepared_folders(settings.weights_folder) | prepared_folders(settings.bundled_folder)
    for preset in PRESETS.values():
        what = f"preset {preset.name}"
        found = [item for item in prepared.items() if item[1].preset == preset.name]
        for folder, manifest in found:
            kind = f"{manifest.precision}, speakers: {manifest.speakers}"
            size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
            yield what, "ok", f"{preset.use}; {kind}; {size:.2f} GB in {folder}"
        if not found and preset.is_bundled:
            yield what, "ok", f"{preset.use}; made at first use"
        elif not found:
            command = Wish.of(settings).command(preset.name)
            yield what, "missing", f"{preset.use}; `{command}` makes its weights"


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
    """What each preset needs, and where the text encoder would go, at each of its resolutions."""
    from infinitetalk.runner import choose_device
    from infinitetalk.weights.device_memory import free_memory
    from infinitetalk.weights.locate import foresee
    from infinitetalk.weights.memory_plan import plan_memory

    device = choose_device(settings.device)
    free = free_memory(device, settings.memory_gigabytes)
    for preset in PRESETS.values():
        try:
            model = foresee(preset, settings, device, free)
        except WeightsCorrupt as error:
            yield f"memory {preset.name}", "bad", error.message
            continue
        for resolution in preset.buckets:
            plan = plan_memory(model, resolution, free, settings.text_encoder)
            state = "ok" if plan.fits else "missing"
            yield f"memory {preset.name} {resolution}", state, plan.sentence
