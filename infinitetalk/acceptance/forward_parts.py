"""One forward of the transformer by its parts, at the shape of a real window.

Inputs are random: a forward takes as long whatever they are. Parts are timed around the submodules
of every block, waiting for the device each time; at the sizes of the released model that costs
nothing that shows. A compiled block has no submodules, so the blocks run as they are written; what
a forward takes in a job is a figure of the clip.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.acceptance.report import Figure, Verdict
from infinitetalk.conditioning import Size, latent_size
from infinitetalk.models.attention import Attention
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.pipeline import LATENT_CHANNELS
from infinitetalk.spec import VAE_STRIDE_TIME
from infinitetalk.weights.load import Model

PARTS: Mapping[str, str] = {  # name -> the submodule of a block
    "self_attention": "self_attn",
    "cross_attention": "cross_attn",
    "audio_attention": "audio_cross_attn",
    "feed_forward": "ffn",
}


@dataclass(frozen=True, slots=True)
class ForwardParts:
    """Seconds of one forward, whole and by part."""

    whole: float
    parts: dict[str, float]
    is_finite: bool  # what came out

    @property
    def rest(self) -> float:
        """Embeddings, norms, modulation and head."""
        return self.whole - sum(self.parts.values())

    @property
    def verdict(self) -> Verdict:
        largest = max(self.parts, key=lambda part: self.parts[part])
        share = self.parts[largest] / self.whole
        detail = f"{self.whole:.3g} s, {share:.0%} of it {largest.replace('_', '-')}"
        if not self.is_finite:
            detail += "; what came out are no numbers"
        return Verdict(self.is_finite, detail)

    @property
    def figures(self) -> tuple[Figure, ...]:
        shares = {"whole": self.whole, **self.parts, "rest": self.rest}
        return tuple(Figure(f"forward.{name}", spent, "s") for name, spent in shares.items())


@torch.inference_mode()
def time_forward(
    model: Model, frames: int, size: Size, attention: Attention, clock: Clock
) -> ForwardParts:
    """Time a forward of one window, after one to warm up; the blocks stay uncompiled from then on.

    Args:
        frames: of the window.
        size: of the video in pixels, (height, width).
        clock: waits for the device.
    """
    network = model.transformer
    network.run_eagerly()
    latent, conditioning = _inputs(model, frames, size)
    time = torch.full((1,), 500.0, device=model.device)  # any of the schedule takes as long
    network(latent, time, conditioning, attention)
    with _timing(network, clock) as spent:
        began = clock()
        out = network(latent, time, conditioning, attention)
        whole = clock() - began
    return ForwardParts(whole, spent, bool(torch.isfinite(out).all()))


def _inputs(model: Model, frames: int, size: Size) -> tuple[Tensor, Conditioning]:
    """A noisy latent, and what one voice and a picture condition it on."""
    network, device = model.transformer, model.device
    sizes = network.config
    grid = latent_size(frames, size)
    latent = torch.randn(1, LATENT_CHANNELS, *grid, device=device)
    condition = torch.randn(1, VAE_STRIDE_TIME + LATENT_CHANNELS, *grid, device=device)
    text = torch.randn(1, sizes.text_tokens, sizes.text_dim, device=device)
    picture = torch.zeros(1, 3, *size, device=device)
    rows = (sizes.audio_window, sizes.audio_layers, sizes.audio_dim)
    speech = torch.randn(1, 1, frames, *rows, device=device)
    return latent, Conditioning(
        condition,
        network.rotary(grid),
        network.text_keys(text),
        network.image_keys(model.image_encoder(picture)),
        network.audio_keys(speech),
    )


@contextmanager
def _timing(network: InfiniteTalkTransformer, clock: Clock) -> Iterator[dict[str, float]]:
    """Seconds spent in each part, added up while the block lasts."""
    spent = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as watched:
        for block in network.blocks:
            for part, name in PARTS.items():
                watched.enter_context(_watching(block.get_submodule(name), part, spent, clock))
        yield spent


@contextmanager
def _watching(
    module: nn.Module, part: str, spent: dict[str, float], clock: Clock
) -> Iterator[None]:
    def enter(*_: object) -> None:
        spent[part] -= clock()

    def leave(*_: object) -> None:
        spent[part] += clock()

    handles = (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
