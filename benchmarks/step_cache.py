"""The step cache: what it may leave out of each preset, what it does leave out, at what error.

With random weights the time modulation is another one at every step, so nothing is left out; made
steady, as trained ones are, they show the error. Once the demo model is trained, it is the one to
look at: `--preset demo --trained`.

python -m benchmarks.step_cache [--preset tiny] [--trained]
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.results import record
from infinitetalk.conditioning import Picture
from infinitetalk.config import Settings
from infinitetalk.media.audio import SpeechFile, decode_speech
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.progress import Progress
from infinitetalk.sampling.sampler import Guidance
from infinitetalk.sampling.schedule import timesteps
from infinitetalk.sampling.step_cache import (
    COEFFICIENTS_480,
    COEFFICIENTS_720,
    WARMUP_STEPS,
    plan_steps,
    relative_change,
)
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import PRESETS, GenerationSpec, Preset, specify
from infinitetalk.weights.device_memory import free_memory
from infinitetalk.weights.load import Model, load_model
from infinitetalk.weights.locate import choose_weights

CPU = torch.device("cpu")
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)
FULL_SIZE = ("fast", "standard", "best")
STEPS = (8, 40)  # of `standard` and of `best`; those of `fast` are all computed
CHANGES = np.linspace(0, 0.2, 2001)  # relative, of the modulation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=("tiny", "demo"), default="tiny")
    parser.add_argument("--trained", action="store_true", help="take its weights as they are")
    options = parser.parse_args()
    with torch.inference_mode():
        record_limits()
        record_presets()
        record_errors(options.preset, options.trained)


def record_limits() -> None:
    """What change of the modulation each threshold lets pass, by the polynomial alone."""
    header = ("threshold", "largest change left out, 480p", "largest change left out, 720p")
    rows = [
        (threshold, _largest(COEFFICIENTS_480, threshold), _largest(COEFFICIENTS_720, threshold))
        for threshold in THRESHOLDS
    ]
    note = "Of the time modulation from one step to the next, relative; a single step left out."
    record("Step cache: what a threshold lets pass", header, rows, note)


def _largest(coefficients: tuple[float, ...], threshold: float) -> str:
    passing = CHANGES[np.polyval(coefficients, CHANGES) < threshold]
    return f"{100 * passing.max():.1f} %" if len(passing) else "none"


def record_presets() -> None:
    """What may be left out of each preset, and what is with random weights of the 14B sizes."""
    network = _time_path()
    header = (
        *("preset", "steps", "always computed", "timesteps between the others"),
        *("change of random weights", *(f"left out at {threshold}" for threshold in THRESHOLDS)),
    )
    rows = [
        _preset_row(network, preset, resolution)
        for preset in (PRESETS[name] for name in FULL_SIZE)
        for resolution in preset.shift
    ]
    note = (
        "Steps of a window; of 1000 timesteps; the time path of the 14B model with random weights. "
        "A step is taken as many times as it has forwards: 1, 2 and 3 with these presets."
    )
    record("Step cache: steps of each preset", header, rows, note)


def _time_path() -> InfiniteTalkTransformer:
    """The full-size network without its blocks."""
    torch.manual_seed(0)
    return InfiniteTalkTransformer(replace(TransformerConfig(), layers=0))


def _preset_row(
    network: InfiniteTalkTransformer, preset: Preset, resolution: str
) -> tuple[object, ...]:
    times = timesteps(preset.steps, preset.shift[resolution])
    modulations = [network.embed_time(t[None]).blocks for t in times[:-1]]
    gaps = -times.diff()[WARMUP_STEPS - 1 : -1]
    changes = [relative_change(after, before) for before, after in pairwise(modulations)]
    coefficients = COEFFICIENTS_720 if resolution == "720p" else COEFFICIENTS_480
    left_out = [
        plan_steps(modulations, threshold, coefficients).skipped for threshold in THRESHOLDS
    ]
    return (
        *(f"{preset.name} {resolution}", preset.steps, min(WARMUP_STEPS, preset.steps)),
        f"{gaps.min():.0f} to {gaps.max():.0f}" if len(gaps) else "-",
        *(f"{100 * min(changes):.0f} % and more", *left_out),
    )


def record_errors(preset: str, is_trained: bool) -> None:
    """Frames of the first window of a small model with and without the cache."""
    header = ("steps", "threshold", "forwards left out", "mean error", "PSNR, dB")
    with tempfile.TemporaryDirectory() as folder:
        model = _load(preset, Path(folder))
        if not is_trained:
            _make_steady(model)
        rows = list(_errors(preset, model, Path(folder)))
    note = (
        f"The preset `{preset}` with 1 and 2 for text and audio guidance, the bundled portrait and "
        "sentence, one window; error against every step computed, in levels of 255. Weights: "
        f"{model.manifest.recipe}"
    )
    steady = "; made steady: those of the time projection times 0.02, its bias 0.5"
    ending = ". The polynomial is fitted to Wan2.1, not to this model."
    record("Step cache: error", header, rows, note + ("" if is_trained else steady) + ending)


def _load(preset: str, home: Path) -> Model:
    located = choose_weights(preset, Settings(home=home), CPU, free_memory(CPU, None))
    return load_model(located.folder, CPU, torch.float32)


def _make_steady(model: Model) -> None:
    projection = model.transformer.time_projection[1]
    assert isinstance(projection, nn.Linear)
    projection.weight.mul_(0.02)
    projection.bias.fill_(0.5)


def _errors(preset: str, model: Model, folder: Path) -> Iterator[tuple[object, ...]]:
    for steps in STEPS:
        spec = specify(preset, steps=steps, text_guidance=1.0, audio_guidance=2.0)
        exact, _ = _render(model, spec, folder)
        for threshold in THRESHOLDS:
            cached = replace(spec, step_cache_threshold=threshold)
            frames, skipped = _render(model, cached, folder)
            forwards = f"{skipped} of {steps * len(Guidance.of(spec).branches)}"
            yield steps, threshold, forwards, *_distance(frames, exact)


def _render(model: Model, spec: GenerationSpec, folder: Path) -> tuple[np.ndarray, int]:
    """The frames of the first window, and the forwards that were left out."""
    moments: list[Progress] = []
    assets = files("infinitetalk.demo") / "assets"
    with as_file(assets / "portrait.png") as picture, Image.open(picture) as image:
        scene = Picture(np.array(image.convert("RGB")))
    with as_file(assets / "speech.flac") as sentence:
        decode_speech(sentence, folder / "speech.wav", max_seconds=60)
    with SpeechFile(folder / "speech.wav") as voice:
        plan = WindowPlan(spec.window, spec.window, spec.motion_frames)
        (window,) = InfiniteTalkPipeline(model).render(
            spec, scene, [voice], plan, on_progress=moments.append, canceling=lambda: False
        )
    return window.frames, moments[-1].skipped_steps


def _distance(frames: np.ndarray, exact: np.ndarray) -> Iterable[str]:
    error = frames.astype(float) - exact
    if not error.any():
        return "0", "equal"
    psnr = 10 * np.log10(255**2 / np.square(error).mean())
    return f"{np.abs(error).mean():.2f}", f"{psnr:.1f}"


if __name__ == "__main__":
    main()
