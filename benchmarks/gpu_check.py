"""Does the engine give the same on a GPU, and what does one full-size forward cost as it stands?

Renders a few windows of the bundled models on the GPU in float32 and bfloat16 with every attention
backend there is, against the CPU in float32; then times one forward of the 14B transformer (random
weights) at 640x640, 81 frames. Needs no ffmpeg.

python -m benchmarks.gpu_check
"""

import statistics
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.results import record
from infinitetalk.conditioning import Picture
from infinitetalk.media.audio import SpeechFile
from infinitetalk.models.attention import BACKENDS, attention_backend, unavailable_reason
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import specify
from infinitetalk.weights.load import load_model
from infinitetalk.weights.locate import locate_weights

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
LATENT = (21, 80, 80)  # 640x640, 81 frames
RUNS = 3


def main() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    rows = [row for preset in ("tiny", "demo") for row in compare_frames(preset)]
    header = ("preset", "arithmetic", "attention", "frames against CPU float32")
    note = (
        "61 frames, 2 windows, audio guidance 2. PSNR over all pixels, and the largest difference."
    )
    record("The same frames on a GPU", header, rows, note)
    note = "Median of 3 after a warm-up, CUDA events. Eager, nothing fused: the start of issue 6."
    record("One forward of the 14B transformer", ("attention", "seconds"), time_forward(), note)


def compare_frames(preset: str) -> Iterator[tuple[str, ...]]:
    """PSNR of every GPU variant."""
    expected = render(preset, "cpu", torch.float32, "sdpa")
    for dtype in (torch.float32, torch.bfloat16):
        for backend in usable_backends():
            if backend != "sdpa" and dtype == torch.float32:
                continue  # the fused kernels take half precision only
            frames = render(preset, "cuda", dtype, backend)
            difference = np.abs(frames.astype(float) - expected.astype(float))
            psnr = 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-12))
            detail = f"{psnr:.1f} dB, largest {difference.max():.0f}/255"
            yield preset, str(dtype).removeprefix("torch."), backend, detail


def usable_backends() -> list[str]:
    device = torch.device("cuda")
    return [name for name in BACKENDS if unavailable_reason(name, device) is None]


def render(preset: str, device: str, dtype: torch.dtype, attention: str) -> np.ndarray:
    """Frames of two windows, f h w 3."""
    with tempfile.TemporaryDirectory() as home:
        folder = locate_weights(preset, Path(home))
        model = load_model(folder, torch.device(device), dtype)
    pipeline = InfiniteTalkPipeline(model, attention)
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
