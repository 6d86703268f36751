"""Does the engine give the same on a GPU, and do its steps leave the GPU alone?

Renders a few windows of the bundled models on the GPU in float32 and bfloat16 with every attention
backend there is, against the CPU in float32; then looks for places where the denoising steps make
the program wait for the GPU: none may, but the cancel check. Needs no ffmpeg.

python -m benchmarks.gpu_check [--parts frames,waits]
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.results import record
from infinitetalk.conditioning import Picture
from infinitetalk.config import Settings
from infinitetalk.media.audio import SpeechFile
from infinitetalk.models.attention import BACKENDS, unavailable_reason
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.progress import Progress, Stage
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import GenerationSpec, specify
from infinitetalk.weights.load import load_model
from infinitetalk.weights.locate import locate_weights
from infinitetalk.weights.text_placement import TextPlacement

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="frames,waits")
    parts = parser.parse_args().parts.split(",")
    if "frames" in parts:
        record_frames()
    if "waits" in parts:
        record_waits()


def record_frames() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    rows = [row for preset in ("tiny", "demo") for row in compare_frames(preset)]
    header = ("preset", "arithmetic", "weights", "text encoder", "attention", "against CPU float32")
    note = (
        "61 frames, 2 windows, audio guidance 2. PSNR over all pixels, and the largest difference."
    )
    record("The same frames on a GPU", header, rows, note)


def record_waits() -> None:
    header = ("preset", "forwards", "weights", "blocks", "attention", "waits")
    note = f"From the first cancel check to the last, {STEPS} steps, guided twice."
    record("Waiting for the GPU in the steps", header, list(find_waits()), note)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a model."""

    dtype: torch.dtype = torch.bfloat16
    attention: str = "sdpa"
    precision: str = "bfloat16"  # of the weights
    text_encoder: TextPlacement = TextPlacement.DEVICE

    @property
    def cells(self) -> tuple[str, ...]:
        weights = "fp8" if self.precision == "fp8" else "bf16"
        return str(self.dtype).removeprefix("torch."), weights, self.text_encoder, self.attention


def compare_frames(preset: str) -> Iterator[tuple[str, ...]]:
    """PSNR of every GPU variant."""
    expected = render(preset, "cpu", Variant(torch.float32)).astype(float)
    for variant in variants():
        difference = np.abs(render(preset, "cuda", variant).astype(float) - expected)
        psnr = 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-12))
        yield preset, *variant.cells, f"{psnr:.1f} dB, largest {difference.max():.0f}/255"


def variants() -> Iterator[Variant]:
    """Float32, every attention backend, 8 bits, every place of the text encoder."""
    yield Variant(torch.float32)
    yield from (Variant(attention=backend) for backend in usable_backends())
    yield Variant(precision="fp8")
    yield from (Variant(text_encoder=place) for place in TextPlacement)


def usable_backends() -> list[str]:
    device = torch.device("cuda")
    return [name for name in BACKENDS if unavailable_reason(name, device) is None]


def render(preset: str, device: str, how: Variant) -> np.ndarray:
    """Frames of two windows, f h w 3."""
    spec = specify(preset, steps=STEPS, audio_guidance=2.0)
    return frames_of(loaded(preset, device, how), spec, Watch())


def loaded(preset: str, device: str, how: Variant) -> InfiniteTalkPipeline:
    with tempfile.TemporaryDirectory() as home:
        (folder,) = locate_weights(preset, Settings(home=Path(home), precision=how.precision))
        place = torch.device(device)
        model = load_model(folder, place, how.dtype, text_encoder=how.text_encoder)
    return InfiniteTalkPipeline(model, how.attention)


class Watch:
    """What a rendering tells and asks, and does nothing about."""

    def on_progress(self, progress: Progress) -> None:
        """It goes on."""

    def canceling(self) -> bool:
        return False


def frames_of(pipeline: InfiniteTalkPipeline, spec: GenerationSpec, watch: Watch) -> np.ndarray:
    """Frames of two windows of the bundled portrait, f h w 3."""
    with Image.open(ASSETS / "portrait.png") as image:
        scene = Picture(np.array(image.convert("RGB")))
    with tempfile.TemporaryDirectory() as home, SpeechFile(speech(Path(home))) as voice:
        windows = pipeline.render(
            spec,
            scene,
            [voice],
            WindowPlan(61, 33, 5),
            on_progress=watch.on_progress,
            canceling=watch.canceling,
        )
        return np.concatenate([window.frames for window in windows])


def speech(folder: Path) -> Path:
    """A wav of 3 s at 16 kHz."""
    import soundfile

    noise = np.random.default_rng(0).normal(size=48000).astype(np.float32) * 0.1
    soundfile.write(folder / "speech.wav", noise, 16000, subtype="FLOAT")
    return folder / "speech.wav"


def find_waits(preset: str = "demo") -> Iterator[tuple[str, ...]]:
    """A row for every way to run the steps, with the lines that wait."""
    spec = replace(specify(preset, steps=STEPS, audio_guidance=2.0), text_guidance=2.0)
    for precision in ("bfloat16", "fp8"):
        for attention in usable_backends():
            pipeline = loaded(preset, "cuda", Variant(attention=attention, precision=precision))
            for blocks in ("eager", "compiled"):
                if blocks == "compiled":
                    pipeline.compile(spec)
                for threshold in (0.0, 0.1):
                    cached = replace(spec, step_cache_threshold=threshold)
                    forwards = "some from the step cache" if threshold else "all"
                    found = waits(pipeline, cached)
                    row = (preset, forwards, precision, blocks, attention, found or "none")
                    print("row:", *row, flush=True)
                    yield row


def waits(pipeline: InfiniteTalkPipeline, spec: GenerationSpec) -> str:
    """Files and lines that wait between the cancel checks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames_of(pipeline, spec, StepWatch())
    places = {
        f"{Path(said.filename).name}:{said.lineno}"
        for said in caught
        if "synchronizing CUDA operation" in str(said.message)
    }
    return ", ".join(sorted(places))


class StepWatch(Watch):
    """Has torch warn of whatever waits, from the first cancel check of a window to its last.

    Args:
        set_mode: of torch's own watch.
    """

    def __init__(self, set_mode: Callable[[str], None] = torch.cuda.set_sync_debug_mode) -> None:
        self._set_mode = set_mode
        self._is_denoising = False

    def on_progress(self, progress: Progress) -> None:
        self._is_denoising = progress.stage is Stage.DENOISING
        if not self._is_denoising:
            self._set_mode("default")

    def canceling(self) -> bool:
        if self._is_denoising:  # it is asked while frames are decoded too
            self._set_mode("warn")
        return False


if __name__ == "__main__":
    main()
