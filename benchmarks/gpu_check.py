"""Does the engine give the same on a GPU, and what does one full-size forward cost as it stands?

Renders a few windows of the bundled models on the GPU in float32 and bfloat16 with every attention
backend there is, against the CPU in float32; then times one forward of the 14B transformer (random
weights) at 640x640, 81 frames. Needs no ffmpeg.

python -m benchmarks.gpu_check
"""

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.results import record
from infinitetalk.conditioning import Picture
from infinitetalk.config import Settings
from infinitetalk.media.audio import SpeechFile
from infinitetalk.models.attention import BACKENDS, attention_backend, unavailable_reason
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import specify
from infinitetalk.weights.load import load_model
from infinitetalk.weights.locate import locate_weights
from infinitetalk.weights.text_placement import TextPlacement

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
LATENT = (21, 80, 80)  # 640x640, 81 frames
RUNS = 3


def main() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    rows = [row for preset in ("tiny", "demo") for row in compare_frames(preset)]
    header = ("preset", "arithmetic", "weights", "text encoder", "attention", "against CPU float32")
    note = (
        "61 frames, 2 windows, audio guidance 2. PSNR over all pixels, and the largest difference."
    )
    record("The same frames on a GPU", header, rows, note)
    note = "Median of 3 after a warm-up, CUDA events. Eager, nothing fused: the start of issue 6."
    record("One forward of the 14B transformer", ("attention", "seconds"), time_forward(), note)


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
    with tempfile.TemporaryDirectory() as home:
        (folder,) = locate_weights(preset, Settings(home=Path(home), precision=how.precision))
        place = torch.device(device)
        model = load_model(folder, place, how.dtype, text_encoder=how.text_encoder)
    pipeline = InfiniteTalkPipeline(model, how.attention)
    with Image.open(ASSETS / "portrait.png") as image:
        scene = Picture(np.array(image.convert("RGB")))
    with tempfile.TemporaryDirectory() as home, SpeechFile(speech(Path(home))) as voice:
        windows = pipeline.render(
            specify(preset, steps=4, audio_guidance=2.0),
            scene,
            [voice],
            WindowPlan(61, 33, 5),
            on_progress=lambda _: None,
            canceling=lambda: False,
        )
        return np.concatenate([window.frames for window in windows])


def speech(folder: Path) -> Path:
    """A wav of 3 s at 16 kHz."""
    import soundfile

    noise = np.random.default_rng(0).normal(size=48000).astype(np.float32) * 0.1
    soundfile.write(folder / "speech.wav", noise, 16000, subtype="FLOAT")
    return folder / "speech.wav"


@torch.inference_mode()
def time_forward() -> list[tuple[str, str]]:
    """Seconds of a forward with every backend, and the peak memory."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        network = InfiniteTalkTransformer(TransformerConfig()).eval()
    torch.set_default_dtype(torch.float32)
    with torch.device("cuda"):
        conditioning = Conditioning(
            torch.randn(1, 20, *LATENT),
            network.rotary(LATENT),
            network.text_keys(torch.randn(1, 40, 4096)),
            network.image_keys(torch.randn(1, 257, 1280)),
            network.audio_keys(torch.randn(1, 1, 81, 5, 12, 768)),
        )
        latent, timestep = torch.randn(1, 16, *LATENT), torch.tensor([500.0])
    rows = []
    for name in usable_backends():
        backend = attention_backend(name, torch.device("cuda"))
        seconds = [
            timed(lambda b=backend: network(latent, timestep, conditioning, b))
            for _ in range(RUNS + 1)
        ]
        rows.append((name, f"{statistics.median(seconds[1:]):.2f}"))
    rows.append(("peak memory", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"))
    return rows


def timed(function) -> float:
    """Seconds of a call on the GPU."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


if __name__ == "__main__":
    main()
