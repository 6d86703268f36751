"""Made-up queries, keys and values with the structure of a trained video transformer's.

Noise is the wrong thing to judge an 8-bit attention by: averages of white values are next to
nothing, so that rounding looks large, and nothing in them is hard to round. Here tokens vary
smoothly over the video and look at their like, some heads sharply and some at everything; a few
channels are several times as loud as the rest; keys have a bias; the rotary embedding is applied.

Axes: b batch (1), n tokens, h heads, d head dimension, r rows looked at.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.models.attention import RotaryTable, rotary_grid, rotate

_SMOOTH = 0.85  # share of the variance that changes slowly over the video
_COARSE = 4  # tokens from one independent value to the next
_SPREADS = (0.7, 5.0)  # standard deviation of the scores, the vaguest head and the sharpest
_LOUD_CHANNELS = 3
_SAMPLE = 512  # pairs of tokens that the spread is measured on


def realistic_inputs(
    grid: tuple[int, int, int], heads: int, head_dim: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (1 n h d, bfloat16) of a video of this grid of tokens, on the generator's device."""
    table = rotary_grid(grid, head_dim, generator.device)
    sharpness = torch.linspace(0, 1, heads).tolist()
    low, high = _SPREADS
    made = [
        _head(grid, head_dim, table, low * (high / low) ** sharp, generator) for sharp in sharpness
    ]
    q, k, v = (torch.stack(parts, 1)[None] for parts in zip(*made, strict=True))
    return q, k, v


def exact_rows(q: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> Tensor:
    """Attention of some queries in float32: 1 r h d."""
    heads = [
        _softmax_average(q[0, rows, h].float(), k[0, :, h].float(), v[0, :, h].float())
        for h in range(q.shape[2])
    ]
    return torch.stack(heads, 1)[None]


def _softmax_average(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.t() / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v


def _head(
    grid: tuple[int, int, int],
    d: int,
    table: RotaryTable,
    spread: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of one head, n d each."""
    shown = _field(grid, d, generator)  # what queries and keys agree on
    volume = _volumes(d, 0.5, 4.0, generator)
    q = (0.6 * shown + 0.8 * _field(grid, d, generator)) * volume
    k = (0.6 * shown + 0.8 * _field(grid, d, generator)) * volume
    q = _rotated(q + 0.5 * volume * _normal((d,), generator), table)
    k = _rotated(k + 1.5 * volume * _normal((d,), generator), table)
    gain = (spread / _spread(q, k, generator)) ** 0.5
    v = _field(grid, d, generator) + 0.7 * _normal((d,), generator)
    v = v * _volumes(d, 0.4, 6.0, generator)
    return (q * gain).bfloat16(), (k * gain).bfloat16(), v.bfloat16()


def _field(grid: tuple[int, int, int], channels: int, generator: torch.Generator) -> Tensor:
    """n channels, of unit variance: smooth over the grid, with some detail of every token."""
    coarse = [max(2, size // _COARSE) for size in grid]
    slow = F.interpolate(
        _normal((1, channels, *coarse), generator), size=grid, mode="trilinear", align_corners=True
    )
    slow = slow[0].flatten(1).t()
    slow = slow / slow.std()
    return _SMOOTH**0.5 * slow + (1 - _SMOOTH) ** 0.5 * _normal(slow.shape, generator)


def _volumes(d: int, variety: float, loud: float, generator: torch.Generator) -> Tensor:
    """How strong each channel is; a few are `loud` times as strong."""
    volume = torch.exp(variety * _normal((d,), generator))
    chosen = torch.randperm(d, generator=generator, device=generator.device)[:_LOUD_CHANNELS]
    volume[chosen] *= loud
    return volume / volume.square().mean().sqrt()


def _rotated(x: Tensor, table: RotaryTable) -> Tensor:
    return rotate(x[None, :, None], table)[0, :, 0]


def _spread(q: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
    """Standard deviation of the scores over a sample of pairs; a shift of all keys is no matter."""
    chosen = torch.randint(len(q), (2, _SAMPLE), generator=generator, device=generator.device)
    scores = q[chosen[0]] @ (k[chosen[1]] - k.mean(0)).t() / q.shape[-1] ** 0.5
    return scores.std()


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)
