"""Working memory of a window at full size, part by part, beside what the memory plan reckons with.

Random weights of the released sizes; each part runs alone, so its peak minus what was there before
is what the part needs.

python -m benchmarks.memory
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.results import record
from infinitetalk.models.attention import attention_backend
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.sampling.color import match_color
from infinitetalk.weights.convert import COMPONENTS, build

GIB = 2**30
SIZES = {"480p": (640, 640), "720p": (960, 960)}
FRAMES = 81
DEVICE = torch.device("cuda")


Part = tuple[str, Callable[[tuple[int, int]], object]]
"""A part of a window as a function of the picture's size."""


def main() -> None:
    rows = []
    with torch.inference_mode():
        for measure in (vae_parts, text_parts, transformer_parts):  # one network at a time
            for part, run in measure():
                rows += [(part, *(f"{peak(partial(run, size)):.2f}" for size in SIZES.values()))]
    note = "GiB beyond the weights. 81 frames, batch 1, SDPA; VAE in float16, the rest in bfloat16."
    record("Working memory of a window", ("part", *SIZES), rows, note)


def vae_parts() -> Iterator[Part]:
    vae = random_network("vae", torch.float16)
    vae.fuse()
    yield "VAE encode", lambda size: vae.encode(torch.zeros(1, 3, FRAMES, *size, device=DEVICE))
    yield "VAE decode", lambda size: decode(vae, size, tiles=1)
    yield "VAE decode in 2 x 2 tiles", lambda size: decode(vae, size, tiles=2)
    yield "VAE decode in 3 x 3 tiles", lambda size: decode(vae, size, tiles=3)
    yield "colour match", match


def text_parts() -> Iterator[Part]:
    encoder = random_network("text_encoder", torch.bfloat16)
    yield "text encoder, 512 tokens", lambda _: encoder(list(range(512)))


def transformer_parts() -> Iterator[Part]:
    network = random_network("transformer", torch.bfloat16)
    yield "keys and values", lambda size: condition(network, size)
    yield "transformer forward with them", lambda size: forward(network, size)


def random_network(name: str, dtype: torch.dtype) -> Any:
    """A network of the released sizes whose weights are drawn on the device."""
    network = build(name, COMPONENTS[name].config(), "meta").to(dtype).to_empty(device=DEVICE)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.02)
    return network


def decode(vae: VideoVAE, size: tuple[int, int], *, tiles: int) -> Tensor:
    vae.tiles = tiles
    return vae.decode(torch.randn(1, 16, *latent(size), device=DEVICE))


def match(size: tuple[int, int]) -> Tensor:
    frames = torch.rand(3, FRAMES, *size, device=DEVICE)
    return match_color(frames, torch.rand(3, *size, device=DEVICE), 1.0)


def latent(size: tuple[int, int]) -> tuple[int, int, int]:
    return 1 + (FRAMES - 1) // 4, size[0] // 8, size[1] // 8


def condition(network: InfiniteTalkTransformer, size: tuple[int, int]) -> Conditioning:
    """What one branch of one speaker needs."""
    device = DEVICE
    return Conditioning(
        torch.randn(1, 20, *latent(size), device=device),
        network.rotary(latent(size)),
        network.text_keys(torch.randn(1, 40, 4096, device=device)),
        network.image_keys(torch.randn(1, 257, 1280, device=device)),
        network.audio_keys(torch.randn(1, 1, FRAMES, 5, 12, 768, device=device)),
    )


def forward(network: InfiniteTalkTransformer, size: tuple[int, int]) -> Tensor:
    noisy = torch.randn(1, 16, *latent(size), device=DEVICE)
    times = torch.tensor([500.0], device=DEVICE)
    return network(noisy, times, condition(network, size), attention_backend("sdpa", DEVICE))


def peak(run: Callable[[], object]) -> float:
    """GiB that a call takes at its height."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / GIB


if __name__ == "__main__":
    main()
