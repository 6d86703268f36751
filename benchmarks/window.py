"""One window of each preset from prompt, picture and voice to uint8 frames, part by part.

The full-size model with drawn weights. Every part is timed alone; then the pipeline renders two
windows with a few of the steps, which take the same time each, and they are put together for all.
The first window encodes what is encoded once a job, the second is as all that follow.

python -m benchmarks.window [--presets fast,standard,best] [--resolution 480p] [--steps 2]
                            [--precision fp8] [--attention cudnn,eight_bit] [--memory GIB]
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.random_model import draw
from benchmarks.results import record
from infinitetalk.acceptance.device_clock import device_clock
from infinitetalk.conditioning import Picture, latent_size
from infinitetalk.config import Settings
from infinitetalk.deployed_attention import deployed_attention
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.media.image import choose_bucket
from infinitetalk.pipeline import LATENT_CHANNELS, InfiniteTalkPipeline, to_uint8
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import choose_device, compile_pipeline, is_compiling
from infinitetalk.sampling.color import match_color
from infinitetalk.sampling.guidance import branches
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import FPS, PRESETS, GenerationSpec, specify
from infinitetalk.weights.load import Model

DEVICE = choose_device("auto")
RUNS = 3
SPEECH_S = 10
ASSETS = files("infinitetalk.demo") / "assets"
CLOCK = device_clock(DEVICE)

Part = tuple[str, str, Callable[[], object]]
"""A part, how often it is run, and how."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The first two windows of a job, of which some steps were run."""

    spec: GenerationSpec
    first: Mapping[Stage, float]
    steady: Mapping[Stage, float]

    @property
    def forwards(self) -> int:
        """Of a step."""
        return len(branches(self.spec.text_guidance, self.spec.audio_guidance))

    @property
    def cells(self) -> tuple[str, ...]:
        """Their row, with all the steps of their preset."""
        steps = PRESETS[self.spec.preset].steps
        all_steps = self.steady[Stage.DENOISING] * steps / self.spec.steps
        first, steady = (all_steps + _around(stages) for stages in (self.first, self.steady))
        forward = all_steps / (steps * self.forwards)
        return (
            *(self.spec.preset, f"{self.spec.steps} of {steps}", str(self.forwards)),
            *(f"{forward:.3f}", f"{all_steps:.2f}", f"{self.steady[Stage.ENCODING]:.2f}"),
            *(f"{self.steady[Stage.DECODING]:.2f}", f"{first:.2f}", f"{steady:.2f}"),
            f"{1 - all_steps / steady:.1%}",
        )


COLUMNS = (
    *("preset", "steps measured", "forwards a step", "a forward, s", "all steps, s"),
    *("encoding, s", "decoding, s", "the first window, s", "a later one, s"),
    "of it not the transformer",
)


def main() -> None:
    options = _parser().parse_args()
    presets = options.presets.split(",")
    specs = [_spec(name, options.resolution, options.steps) for name in presets]
    how = f"{options.precision}, {specs[0].resolution}"
    with tempfile.TemporaryDirectory() as home, torch.inference_mode():
        settings = Settings(
            home=Path(home), precision=options.precision, memory_gigabytes=options.memory
        )
        model, _ = draw(presets[0], settings, DEVICE)
        for attention in options.attention.split(","):
            chosen = replace(settings, attention=attention)
            pipeline = pipeline_of(model, presets[0], chosen)
            rows = [two_windows(pipeline, spec).cells for spec in specs]
            note = f"{how}, attention {pipeline.attention}. Encoding and decoding of a later window"
            note += ", decoding with colours and uint8 on the host."
            record("A window of each preset", COLUMNS, rows, note)
        note = f"Each alone, median of {RUNS} after one; {how}. The host's work is in it."
        found = [(name, often, timed(run)) for name, often, run in parts(model, specs[0])]
        record("Parts of a window", ("part", "times", "s"), found, note)


def pipeline_of(model: Model, preset: str, settings: Settings) -> InfiniteTalkPipeline:
    """The pipeline that a deployment would make of a model."""
    network = model.transformer
    attention = deployed_attention(preset, network.config, settings, DEVICE, network.dtype)
    pipeline = InfiniteTalkPipeline(model, attention)
    if is_compiling(settings.compile, DEVICE):
        compile_pipeline(pipeline, preset, settings)
    return pipeline


def parts(model: Model, spec: GenerationSpec) -> Iterator[Part]:
    """What is run around the forwards, in order."""
    network, sizes = model.transformer, model.transformer.config
    size = choose_bucket(1, 1, spec.buckets)
    clip = torch.rand(1, 3, spec.window, *size, device=DEVICE) * 2 - 1
    latent = torch.randn(1, LATENT_CHANNELS, *latent_size(spec.window, size), device=DEVICE)
    prompt = torch.randn(1, 40, sizes.text_dim, device=DEVICE)
    tokens = torch.randn(1, model.image_encoder.tokens, sizes.image_dim, device=DEVICE)
    rows = (sizes.audio_window, sizes.audio_layers, sizes.audio_dim)
    speech = torch.randn(1, 1, spec.window, *rows, device=DEVICE)
    wave = torch.randn(SPEECH_S * SPEECH_RATE, device=DEVICE)
    vae = model.vae
    yield "prompt encoded", "job", lambda: model.text_encoder(model.tokenizer(spec.prompt))
    yield "prompt's keys", "job", lambda: network.text_keys(prompt)
    yield f"speech, {SPEECH_S} s", "job", lambda: model.audio_encoder(wave, SPEECH_S * FPS)
    yield "picture encoded", "job", lambda: model.image_encoder(clip[:, :, 0])
    yield "picture's keys", "job", lambda: network.image_keys(tokens)
    yield f"VAE encode, {spec.window} frames", "job", lambda: vae.encode(clip)
    motion = clip[:, :, -spec.motion_frames :]
    yield f"VAE encode, {spec.motion_frames} frames", "window", lambda: vae.encode(motion)
    yield "speech's keys", "window", lambda: network.audio_keys(speech)
    yield "VAE decode", "window", lambda: vae.decode(latent)
    picture = clip[0, :, 0]
    yield "colours matched", "window", lambda: match_color(clip[0], picture, spec.color_strength)
    yield "uint8 on the host", "window", lambda: to_uint8(clip[0])


def timed(run: Callable[[], object]) -> str:
    """Median seconds."""
    return f"{statistics.median([seconds(run) for _ in range(RUNS + 1)][1:]):.3f}"


def seconds(run: Callable[[], object]) -> float:
    began = CLOCK()
    run()
    return CLOCK() - began


def two_windows(pipeline: InfiniteTalkPipeline, spec: GenerationSpec) -> Windows:
    """Render them with the bundled portrait; seconds of their stages."""
    moments: list[tuple[float, Progress]] = []

    def note(progress: Progress) -> None:
        moments.append((CLOCK(), progress))

    plan = WindowPlan(2 * spec.window - spec.motion_frames, spec.window, spec.motion_frames)
    with as_file(ASSETS / "portrait.png") as path, Image.open(path) as image:
        scene = Picture(np.asarray(image.convert("RGB")))
    with tempfile.TemporaryDirectory() as folder, speech_of(plan, Path(folder)) as voice:
        windows = pipeline.render(
            spec, scene, [voice], plan, on_progress=note, canceling=lambda: False
        )
        frames = sum(len(rendered.frames) for rendered in windows)
    assert frames == plan.frames
    return Windows(spec, *stages_of(moments, CLOCK()))


def stages_of(
    moments: Sequence[tuple[float, Progress]], ended: float
) -> tuple[dict[Stage, float], dict[Stage, float]]:
    """Seconds of each stage of the first window and of the second.

    What comes before the first one, the encoders, counts as the first one's.
    """
    windows: tuple[dict[Stage, float], ...] = (defaultdict(float), defaultdict(float))
    ends = [at for at, _ in moments[1:]] + [ended]
    for (began, progress), end in zip(moments, ends, strict=True):
        windows[max(progress.window, 1) - 1][progress.stage] += end - began
    return windows[0], windows[1]


def speech_of(plan: WindowPlan, folder: Path) -> SpeechFile:
    """Noise as long as the video."""
    import soundfile

    path = folder / "speech.wav"
    noise = np.random.default_rng(0).normal(size=plan.frames * SPEECH_RATE // FPS) * 0.1
    soundfile.write(path, noise.astype(np.float32), SPEECH_RATE, subtype="FLOAT")
    return SpeechFile(path)


def _around(stages: Mapping[Stage, float]) -> float:
    return stages[Stage.ENCODING] + stages[Stage.DECODING]


def _spec(preset: str, resolution: str | None, steps: int) -> GenerationSpec:
    spec = specify(preset, resolution=resolution)
    return replace(spec, steps=min(steps, spec.steps))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", default="fast,standard,best", help="all of one model")
    parser.add_argument("--resolution")
    parser.add_argument("--steps", type=int, default=2, help="that are run, at most")
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--attention", default="cudnn,eight_bit", help="one after another")
    parser.add_argument("--memory", type=float, help="GiB, as on a smaller GPU")
    return parser


if __name__ == "__main__":
    main()
