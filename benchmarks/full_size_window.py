"""Windows of the full-size model within the memory of a smaller card, beside the plan's figures.

The allocator is held to the limit, so what does not fit fails here as it would there.

python -m benchmarks.full_size_window WEIGHTS [--limit GIB] [--text-encoder auto|device|...]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from benchmarks.results import record
from infinitetalk.conditioning import Picture
from infinitetalk.config import Settings
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import PRESETS, specify
from infinitetalk.weights.device_memory import GIB, free_memory, limit_memory
from infinitetalk.weights.load import load_model
from infinitetalk.weights.locate import choose_weights, foresee
from infinitetalk.weights.memory_plan import plan_memory

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
PRESET = "standard"
STEPS = 2
DEVICE = torch.device("cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--limit", type=float, default=44.5, help="GiB (default: 44.5, an L40S)")
    parser.add_argument("--text-encoder", default="auto")
    options = parser.parse_args()
    settings = Settings(
        weights=options.weights,
        precision="fp8",
        text_encoder=options.text_encoder,
        memory_gigabytes=options.limit,
    )
    limit_memory(DEVICE, options.limit)
    header = ("resolution", "weights, GiB", "plan for a window", "measured", "s a window", "plan")
    note = (
        f"Within {options.limit} GiB, text encoder: {options.text_encoder}. Two windows of "
        f"{STEPS} steps, two forwards a step, random weights, eager."
    )
    record("The full-size model in fp8 on a smaller card", header, list(rows(settings)), note)


def rows(settings: Settings) -> Iterator[tuple[str, ...]]:
    """One line for every resolution that fits."""
    free = free_memory(DEVICE, settings.memory_gigabytes)
    model = foresee(PRESETS[PRESET], settings, DEVICE, free)
    located = choose_weights(PRESET, settings, DEVICE, free)
    pipeline = InfiniteTalkPipeline(
        load_model(located.folder, DEVICE, torch.bfloat16, text_encoder=located.plan.text_encoder)
    )
    weights = torch.cuda.memory_allocated()
    for resolution in PRESETS[PRESET].buckets:
        plan = plan_memory(model, resolution, free, settings.text_encoder)
        measured, seconds = "not tried", ""
        if located.plan.holds(resolution):
            measured, seconds = render(pipeline, resolution, weights)
        planned = f"{model.window(resolution) / GIB:.1f}"
        yield resolution, f"{weights / GIB:.1f}", planned, measured, seconds, plan.sentence


def render(pipeline: InfiniteTalkPipeline, resolution: str, weights: int) -> tuple[str, str]:
    """GiB beyond the weights at the height of two windows, and seconds of the second one."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    spec = specify(PRESET, resolution=resolution, steps=STEPS)
    plan = WindowPlan(2 * spec.window - spec.motion_frames, spec.window, spec.motion_frames)
    with Image.open(ASSETS / "portrait.png") as image:
        scene = Picture(np.array(image.convert("RGB")))
    with tempfile.TemporaryDirectory() as folder, speech(Path(folder), plan.frames) as voice:
        moments = [time.monotonic()]
        for rendered in pipeline.render(
            spec, scene, [voice], plan, on_progress=lambda _: None, canceling=lambda: False
        ):
            moments.append(time.monotonic())
            assert rendered.frames.std() > 0
    peak = torch.cuda.max_memory_allocated() - weights
    return f"{peak / GIB:.1f}", f"{moments[-1] - moments[-2]:.1f}"


def speech(folder: Path, frames: int) -> SpeechFile:
    """Noise as long as so many frames."""
    path = folder / "speech.wav"
    noise = np.random.default_rng(0).normal(size=frames * SPEECH_RATE // 25) * 0.1
    soundfile.write(path, noise.astype(np.float32), SPEECH_RATE, subtype="FLOAT")
    return SpeechFile(path)


if __name__ == "__main__":
    main()
