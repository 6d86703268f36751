"""What happens to the tokens of a block between its matrix products, written in torch.

Norms, gates, residuals, GELU and rotary embedding: each reads and writes the row of every token and
does little with it. `RowOps` names them, `PLAIN` defines them for every device and precision;
`fused_rows.py` has the same steps as one kernel each.

An operation is told which layer reads its result, so that it may hand over rows that are rounded to
8 bits already. Those of `PLAIN` leave that to the layer.

Axes: b batch, n tokens, h heads, d width (of a head where h stands beside it).
"""

from collections.abc import Callable
from math import pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.models.attention import RotaryTable, rotate
from infinitetalk.models.float8 import Rows

GELU_SLOPE, GELU_CUBE = 2 * (2 / pi) ** 0.5, 0.044715  # Hendrycks and Gimpel, arXiv 1606.08415

Input = Tensor | Rows
"""What a linear layer reads: b n d, or the same in 8 bits."""


class RMSNorm(nn.Module):
    """A root-mean-square norm over the whole width."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Affine(NamedTuple):
    """What a LayerNorm is scaled and shifted by: d, or b 1 d where it follows the time."""

    scale: Tensor
    shift: Tensor
    eps: float


class RowOps(NamedTuple):
    """The operations, by what they are in the block; the last argument reads the result."""

    norm: Callable[[Tensor, Affine, nn.Module], Input]
    add_norm: Callable[[Tensor, Tensor, Tensor | None, Affine, nn.Module], tuple[Tensor, Input]]
    rotary_heads: Callable[[Tensor, Tensor, Tensor, float, RotaryTable], tuple[Tensor, Tensor]]
    add: Callable[[Tensor, Tensor | None, nn.Module], Input]
    gelu: Callable[[Tensor, nn.Module], Input]


def layer_norm(x: Tensor, eps: float, affine: nn.LayerNorm | None = None) -> Tensor:
    """LayerNorm over the last axis in float32; returns float32."""
    if affine is None:
        return F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return F.layer_norm(x.float(), x.shape[-1:], affine.weight.float(), affine.bias.float(), eps)


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis, float32 inside, scaled in the dtype of x."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return y.to(x.dtype) * scale


def add_residual(x: Tensor, y: Tensor, gate: Tensor | None = None) -> Tensor:
    """x + y, or x + gate y in float32; in the dtype of x."""
    return x + y if gate is None else (x.float() + y.float() * gate).to(x.dtype)


def norm(x: Tensor, affine: Affine, _reader: nn.Module) -> Tensor:
    """LayerNorm, scaled and shifted: b n d -> b n d in the dtype of x."""
    return (layer_norm(x, affine.eps) * affine.scale + affine.shift).to(x.dtype)


def add_norm(
    x: Tensor, y: Tensor, gate: Tensor | None, affine: Affine, reader: nn.Module
) -> tuple[Tensor, Tensor]:
    """The residual sum, and its norm."""
    x = add_residual(x, y, gate)
    return x, norm(x, affine, reader)


def rotary_heads(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, rotary: RotaryTable
) -> tuple[Tensor, Tensor]:
    """Normed and rotated queries and keys, b n h d each, of queries, keys and values b n 3d."""
    q, k, _ = qkv.chunk(3, -1)
    head = (-1, 2 * rotary[0].shape[-1])
    q, k = rms_norm(q, scale_q, eps), rms_norm(k, scale_k, eps)
    return rotate(q.unflatten(-1, head), rotary), rotate(k.unflatten(-1, head), rotary)


def add(x: Tensor, y: Tensor | None, _reader: nn.Module) -> Tensor:
    """x, or x + y."""
    return x if y is None else x + y


def gelu(x: Tensor, _reader: nn.Module) -> Tensor:
    """GELU by its tanh approximation."""
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    y = x.float()  # (1 + tanh u) / 2 is sigmoid 2u, and that a compiled kernel does quickly
    return (y * torch.sigmoid(GELU_SLOPE * (y + GELU_CUBE * y**3))).to(x.dtype)


PLAIN = RowOps(norm, add_norm, rotary_heads, add, gelu)
