"""How far a whole window is from float32: the latent and the pixels in bf16, fp8, 8-bit attention.

One network of random weights runs in every arithmetic in turn, on the same noise. Products of the
float32 run are in tf32, an eighth of bf16's rounding. Random weights make a harsh yardstick, in
which every number matters as much: these errors compare arithmetics with each other and do not
foretell how a face looks.

python -m benchmarks.window_error [--presets fast,standard,best] [--side 256] [--best-steps 4]
                                  [--small]
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.random_model import draw_network
from benchmarks.results import record
from infinitetalk.conditioning import Conditioner, Heard, Picture, Texts
from infinitetalk.models.attention import Attention, cudnn, eight_bit, sdpa
from infinitetalk.models.float8 import float8_kernel, quantize_linears
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.pipeline import WindowPixels, WindowRenderer, seeded_noise
from infinitetalk.progress import ProgressMeter
from infinitetalk.runner import choose_device
from infinitetalk.sampling.windows import WindowPlan, heard_rows
from infinitetalk.spec import GenerationSpec, specify
from infinitetalk.speech import EmbeddedSpeech
from infinitetalk.weights.load import placements
from infinitetalk.weights.model_config import released_config
from infinitetalk.weights.synthetic import model_config
from infinitetalk.weights.text_placement import TextPlacement

DEVICE = choose_device("auto")
IS_GPU = DEVICE.type == "cuda"
BEST = cudnn if IS_GPU else sdpa
PIXEL_RANGE = 2.0  # of [-1, 1]
PROMPT_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One way to run the network: what it takes to get there from the one before."""

    name: str
    turn: Callable[[InfiniteTalkTransformer], object]
    attention: Attention


def main() -> None:
    options = _parser().parse_args()
    config = model_config("tiny") if options.small else released_config()
    places = placements(torch.bfloat16, DEVICE, TextPlacement.DEVICE)
    networks = {
        name: draw_network(name, getattr(config, name), places[name], is_fp8=False)
        for name in ("transformer", "vae", "image_encoder")
    }
    specs = [specify(name) for name in options.presets.split(",")]
    specs = [replace(s, steps=options.best_steps) if s.steps > 8 else s for s in specs]
    side = options.side
    with torch.inference_mode():
        rows = list(compare(networks, specs, (side, side)))
    header = ("preset", "steps", "arithmetic", "latent, relative error", "pixels, PSNR")
    note = f"Against float32 (tf32 products); {side}x{side}, random weights, the same noise."
    record("Error of a whole window", header, rows, note)


def compare(
    networks: Mapping[str, nn.Module], specs: list[GenerationSpec], size: tuple[int, int]
) -> Iterator[tuple[str, ...]]:
    """A row for every preset and arithmetic but the first, which is the truth."""
    truths: dict[str, WindowPixels] = {}
    for arithmetic in arithmetics():
        arithmetic.turn(networks["transformer"])  # type: ignore[arg-type]
        for spec in specs:
            found = render(networks, spec, size, arithmetic.attention)
            truth = truths.setdefault(spec.preset, found)
            if truth is not found:
                row = (spec.preset, str(spec.steps), arithmetic.name, *errors(found, truth))
                print("row:", *row, flush=True)
                yield row


def arithmetics() -> Iterator[Arithmetic]:
    """In an order in which one network can go through all of them."""

    def in_float32(network: InfiniteTalkTransformer) -> None:
        torch.set_float32_matmul_precision("high")
        network.float()

    def in_bfloat16(network: InfiniteTalkTransformer) -> None:
        network.bfloat16()  # as they were drawn
        _compile(network)

    def in_fp8(network: InfiniteTalkTransformer) -> None:
        linears = [
            name
            for name, layer in network.blocks.named_modules(prefix="blocks")
            if isinstance(layer, nn.Linear)
        ]
        quantize_linears(network, linears, float8_kernel(DEVICE))
        _compile(network)

    yield Arithmetic("float32", in_float32, sdpa)
    yield Arithmetic("bf16", in_bfloat16, BEST)
    yield Arithmetic("fp8", in_fp8, BEST)
    if IS_GPU:
        yield Arithmetic("fp8, 8-bit attention", lambda _: None, eight_bit)


def _compile(network: InfiniteTalkTransformer) -> None:
    if IS_GPU:
        network.compile_blocks()


def render(
    networks: Mapping[str, Any],
    spec: GenerationSpec,
    size: tuple[int, int],
    attention: Attention,
) -> WindowPixels:
    """A first window of a random picture, prompt and voice; they are the same in every call."""
    network, vae = networks["transformer"], networks["vae"]
    sizes = network.config
    generator = torch.Generator(DEVICE).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=DEVICE)

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    prompts = (random(1, PROMPT_TOKENS, sizes.text_dim) for _ in range(2))
    voice = EmbeddedSpeech(random(spec.window, sizes.audio_layers, sizes.audio_dim))
    conditioner = Conditioner(
        network,
        vae,
        networks["image_encoder"],
        spec,
        Picture(pixels),
        Texts(*prompts),
        [voice],
        size,
    )
    renderer = WindowRenderer(
        network, vae, conditioner, spec, noise=seeded_noise(0), attention=attention
    )
    plan = WindowPlan(spec.window, spec.window, spec.motion_frames)
    heard = Heard(plan.window(0), (heard_rows(0, spec.window, plan.covered_frames),))
    progress = ProgressMeter(1, spec.steps, lambda _: None)
    (found,) = renderer.render([heard], None, progress, lambda: False)
    return found


def errors(found: WindowPixels, truth: WindowPixels) -> tuple[str, str]:
    """Norm of the latent's error over the latent's, and PSNR of the frames."""
    latent = (found.latent - truth.latent).norm() / truth.latent.norm()
    square = (found.frames - truth.frames).square().mean().clamp(min=1e-20)
    psnr = 10 * torch.log10(PIXEL_RANGE**2 / square)
    return f"{float(latent):.2%}", f"{float(psnr):.1f} dB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", default="fast,standard,best")
    parser.add_argument("--side", type=int, default=256, help="of the square picture")
    parser.add_argument("--best-steps", type=int, default=4, help="instead of 40")
    parser.add_argument("--small", action="store_true", help="sizes of `tiny`, for a CPU")
    return parser


if __name__ == "__main__":
    main()
