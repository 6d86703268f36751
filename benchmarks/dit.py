"""Forwards of the 14B transformer (random weights): eager and compiled, bfloat16 and fp8, beside
what the libraries' kernels would take for the same products and attentions in the same run.

python -m benchmarks.dit [--sizes 480p,720p] [--weights bf16,fp8] [--small]
"""

import argparse
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.device import DEVICE, allocated, collect, peak, wait
from benchmarks.kernels import Kernel, blocks_breakdown, recorded_kernels
from benchmarks.results import record
from infinitetalk.models.attention import Attention, cudnn, sdpa
from infinitetalk.models.float8 import float8_kernel, quantize_linears, quantize_rows
from infinitetalk.models.row_ops import PLAIN
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig

SIZES = {"480p": (21, 80, 80), "720p": (21, 120, 120), "small": (3, 8, 8)}
FRAMES = {"480p": 81, "720p": 81, "small": 9}
SMALL = TransformerConfig(dim=128, ffn_dim=256, heads=2, layers=2)
IMAGE_TOKENS = 257
RUNS = 3

WAYS: Mapping[str, Callable[[InfiniteTalkTransformer], None]] = {
    "eager": InfiniteTalkTransformer.run_eagerly,
    "compiled, plain rows": partial(InfiniteTalkTransformer.compile_blocks, ops=PLAIN),
    "compiled": InfiniteTalkTransformer.compile_blocks,
}
"""How the blocks are run; the last is how the service does it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is run: a network, and the inputs of a forward."""

    network: InfiniteTalkTransformer
    weights: str
    size: str
    conditioning: Conditioning
    latent: Tensor
    timestep: Tensor

    def forward(self, attention: Attention) -> Tensor:
        return self.network(self.latent, self.timestep, self.conditioning, attention)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Seconds that the blocks' products and attentions take in the libraries' kernels, by part."""

    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="480p,720p")
    parser.add_argument("--weights", default="bf16,fp8")
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    options = parser.parse_args()
    sizes = ["small"] if options.small else options.sizes.split(",")
    config = SMALL if options.small else TransformerConfig()
    with torch.inference_mode():
        for weights in options.weights.split(","):
            measure(config, weights, sizes)


def measure(config: TransformerConfig, weights: str, sizes: Sequence[str]) -> None:
    """Record the tables of one precision of the weights."""
    network = random_network(config, weights)
    forwards: list[tuple[str, ...]] = []
    for size in sizes:
        setup = prepare(network, weights, size)
        with reported(f"{weights}, {size}"):
            ceiling = measure_ceiling(setup)
            is_first = size == sizes[0]
            for row in time_forwards(setup, ceiling, is_first=is_first):
                forwards.append(row)  # what is measured stays when the next one fails
            if is_first:
                record_parts(setup, ceiling)
        del setup
        collect()
    header = ("tokens", "weights", "blocks", "first, s", "s", "of the ceiling", "error", "GiB")
    note = (
        f"Median of {RUNS} after the first, CUDA events. The ceiling is the sum of the blocks' "
        "matrix products and attentions, each measured alone in this run. Error (norm) against "
        "the eager forward of the same weights. GiB: peak beyond the weights."
    )
    record(f"A forward of the 14B transformer, {weights}", header, forwards, note)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """What fails is printed and costs nothing else."""
    try:
        yield
    except Exception:
        print(f"{what} failed:", traceback.format_exc(), flush=True)


# -- what is run -------------------------------------------------------------------------------


def random_network(config: TransformerConfig, weights: str) -> InfiniteTalkTransformer:
    """Made on the device, in bfloat16 or with the blocks' linear layers in 8 bits."""
    collect()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with DEVICE:
            network = InfiniteTalkTransformer(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    if weights == "fp8":
        names = [
            name
            for name, layer in network.blocks.named_modules(prefix="blocks")
            if isinstance(layer, nn.Linear)
        ]
        quantize_linears(network, names, float8_kernel(DEVICE))
    return network


def prepare(network: InfiniteTalkTransformer, weights: str, size: str, persons: int = 1) -> Setup:
    """Random inputs of one size."""
    config, latent = network.config, SIZES[size]
    windows = (config.audio_window, config.audio_layers, config.audio_dim)
    with DEVICE:
        conditioning = Conditioning(
            torch.randn(1, 20, *latent),
            network.rotary(latent),
            network.text_keys(torch.randn(1, 40, config.text_dim)),
            network.image_keys(torch.randn(1, IMAGE_TOKENS, config.image_dim)),
            network.audio_keys(torch.randn(1, persons, FRAMES[size], *windows)),
        )
        noise, timestep = torch.randn(1, 16, *latent), torch.tensor([500.0])
    return Setup(network, weights, size, conditioning, noise, timestep)


def best_attention() -> Attention:
    return cudnn if DEVICE.type == "cuda" else sdpa


def record_parts(setup: Setup, ceiling: Ceiling) -> None:
    header = ("part", "ms", "ceiling, ms", "share")
    rows = list(breakdown(setup, ceiling))
    note = "One compiled forward under the profiler, its kernels in the order they ran in."
    record(f"Parts of a forward: {setup.weights}, {setup.size}", header, rows, note)


# -- whole forwards ----------------------------------------------------------------------------


def time_forwards(setup: Setup, ceiling: Ceiling, *, is_first: bool) -> Iterator[tuple[str, ...]]:
    """A row for every way at the first size, for the last way at others; it stays compiled."""
    attention = best_attention()
    tokens = setup.conditioning.rotary[0].shape[0]
    truth = None
    for blocks in WAYS if is_first else list(WAYS)[-1:]:
        if is_first:  # at others the network is compiled already, for every size
            WAYS[blocks](setup.network)
        before = allocated()
        started = time.monotonic()
        result = setup.forward(attention)
        wait()
        first = time.monotonic() - started
        spent = statistics.median(timed(lambda: setup.forward(attention)) for _ in range(RUNS))
        truth = result if truth is None else truth
        error = f"{100 * float((result - truth).norm() / truth.norm()):.2f} %"
        cells = (
            str(tokens),
            setup.weights,
            blocks,
            f"{first:.1f}",
            f"{spent:.3f}",
            f"{100 * ceiling.seconds / spent:.0f} %",
            error if is_first else "",
            f"{peak() - before:.1f}",
        )
        print("row:", *cells, flush=True)
        yield cells


# -- the ceiling -------------------------------------------------------------------------------


def measure_ceiling(setup: Setup) -> Ceiling:
    """Every product and attention of a block alone, times the number of blocks."""
    config, tokens = setup.network.config, setup.conditioning.rotary[0].shape[0]
    dim, layers = config.dim, config.layers
    product = fp8_product if setup.weights == "fp8" else bf16_product
    square = product(tokens, dim, dim)
    heads = partial(torch.randn, device=DEVICE, dtype=torch.bfloat16)
    frames = SIZES[setup.size][0]
    frame = (frames, tokens // frames, config.heads, config.head_dim)
    whole = (1, tokens, config.heads, config.head_dim)

    def attend(query: tuple[int, ...], keys: int, function: Attention) -> float:
        q, k = heads(*query), heads(query[0], keys, *query[2:])
        return alone(lambda: function(q, k, k))

    parts = {
        "q, k, v": product(tokens, dim, 3 * dim),
        "self-attention": attend(whole, tokens, best_attention()),
        "o": square,
        "text and image q": square,
        "image attention": attend(whole, IMAGE_TOKENS, sdpa),
        "text attention": attend(whole, config.text_tokens, sdpa),
        "text and image o": square,
        "audio q": square,
        "audio attention": attend(frame, config.audio_tokens, sdpa),
        "audio o": square,
        "feed-forward, first": product(tokens, dim, config.ffn_dim),
        "feed-forward, second": product(tokens, config.ffn_dim, dim),
    }
    return Ceiling({name: layers * seconds for name, seconds in parts.items()})


def bf16_product(tokens: int, inputs: int, outputs: int) -> float:
    x = torch.randn(tokens, inputs, device=DEVICE, dtype=torch.bfloat16)
    weight = torch.randn(outputs, inputs, device=DEVICE, dtype=torch.bfloat16)
    bias = weight[:, 0].contiguous()
    return alone(lambda: nn.functional.linear(x, weight, bias))


def fp8_product(tokens: int, inputs: int, outputs: int) -> float:
    """Of what is in 8 bits already."""
    kernel = float8_kernel(DEVICE)
    x = quantize_rows(torch.randn(tokens, inputs, device=DEVICE, dtype=torch.bfloat16))
    weight = quantize_rows(torch.randn(outputs, inputs, device=DEVICE, dtype=torch.bfloat16))
    bias = torch.zeros(outputs, device=DEVICE, dtype=torch.bfloat16)
    return alone(lambda: kernel(x, weight, bias, torch.bfloat16))


def alone(function: Callable[[], object]) -> float:
    """Median seconds of a call, ten in a row so that the clock is that of steady work."""
    for _ in range(3):
        function()
    return statistics.median(timed(function) for _ in range(10))


# -- the parts ---------------------------------------------------------------------------------


def breakdown(setup: Setup, ceiling: Ceiling) -> Iterator[tuple[str, ...]]:
    """Time of every product and attention, and of what runs between them."""
    if DEVICE.type != "cuda":
        return
    kernels = recorded_kernels(lambda: setup.forward(best_attention()))
    for name, spent in blocks_breakdown(kernels, tuple(ceiling.parts), setup.network.config.layers):
        limit = ceiling.parts.get(name)
        cells = ("", "") if limit is None else (f"{1000 * limit:.0f}", f"{limit / spent:.0%}")
        yield name, f"{1000 * spent:.0f}", *cells
    _print_longest(kernels)


def _print_longest(kernels: Sequence[Kernel]) -> None:
    """Names and times of the kernels, for whoever wants to know more."""
    total: dict[str, list[float]] = {}
    for kernel in kernels:
        total.setdefault(kernel.name, []).append(kernel.seconds)
    for name, times in sorted(total.items(), key=lambda item: -sum(item[1]))[:40]:
        print(f"kernel: {1000 * sum(times):8.1f} ms {len(times):5d} x  {name[:140]}", flush=True)


# -- the device --------------------------------------------------------------------------------


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call on the device."""
    if DEVICE.type != "cuda":
        started = time.monotonic()
        function()
        return time.monotonic() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


if __name__ == "__main__":
    main()
