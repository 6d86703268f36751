"""The Triton kernels behind fused_rows.py, and how they are launched.

A program keeps the row of one token in registers, in pieces a power of two wide: every value is
read once and written once. What belongs to channels (scales, shifts, gates) is read by every
program and comes from the cache.

Axes: b batch, n tokens, h heads, d channels. Tensors are rows in memory; those of channels are d,
or b 1 d with any step from one entry of the batch to the next.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.models.float8 import FLOAT8

_LARGEST = tl.constexpr(448.0)  # of e4m3
_SMALLEST_SCALE = tl.constexpr(1.1754943508222875e-38)  # of a row of zeros: it can be divided by
_GELU_SLOPE = tl.constexpr(-2.302208198144325)  # -2 sqrt(2 / pi), times log2 e for powers of two
_GELU_CUBE = tl.constexpr(0.044715)

PIECE = 1024  # channels at most


def add_norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_rounded: bool,
) -> list[Tensor]:
    """As the operator says."""
    b, n, d = x.shape
    x = x.contiguous()
    total = x if y is None else torch.empty_like(x)
    result = _empty_rows(x) if is_rounded else [torch.empty_like(x)]
    tensors = (x, x if y is None else y.contiguous(), shift if gate is None else gate, scale, shift)
    add_norm_kernel[(n, b)](
        *(*tensors, total, result[0], result[-1]),
        *(_step(channels) for channels in tensors[2:]),
        eps,
        D=d,
        PIECE=piece(d),
        HAS_SUM=y is not None,
        HAS_GATE=gate is not None,
        IS_ROUNDED=is_rounded,
        num_warps=warps(d),
    )
    return result if y is None else [total, *result]


def rotary_heads(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """As the operator says; the size of a head is a power of two."""
    (b, n, _), d, pairs = qkv.shape, len(scale_q), cos.shape[-1]
    q, k = (qkv.new_empty(b, n, d // (2 * pairs), 2 * pairs) for _ in "qk")
    rotary_kernel[(n, b, 2)](
        *(qkv.contiguous(), scale_q, scale_k, cos.contiguous(), sin.contiguous(), q, k, eps),
        D=d,
        PIECE=piece(d),
        PAIRS=pairs,
        num_warps=warps(d),
    )
    return q, k


def round_rows(x: Tensor, y: Tensor | None, has_gelu: bool) -> tuple[Tensor, Tensor]:
    """As the operator says."""
    x, d = x.contiguous(), x.shape[-1]
    values, scale = _empty_rows(x)
    round_kernel[(scale.numel(),)](
        *(x, x if y is None else y.contiguous(), values, scale),
        D=d,
        PIECE=piece(d),
        HAS_SUM=y is not None,
        HAS_GELU=has_gelu,
        num_warps=warps(d),
    )
    return values, scale


def piece(d: int) -> int:
    """The largest power of two that d is a multiple of, up to `PIECE`."""
    return min(d & -d, PIECE)


def warps(d: int) -> int:
    """As many as leave each thread some 40 values of a row."""
    return 4 if d <= 8 * PIECE else 8


def _empty_rows(x: Tensor) -> list[Tensor]:
    scale = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    return [torch.empty_like(x, dtype=FLOAT8), scale]


def _step(channels: Tensor) -> int:
    return channels.stride(0) if channels.dim() == 3 else 0


@triton.jit
def add_norm_kernel(
    x,
    y,
    gate,
    scale,
    shift,
    total,
    out,
    out_scale,
    gate_step,
    scale_step,
    shift_step,
    eps,
    D: tl.constexpr,
    PIECE: tl.constexpr,
    HAS_SUM: tl.constexpr,
    HAS_GATE: tl.constexpr,
    IS_ROUNDED: tl.constexpr,
):
    """total = x + gate y, rounded as it is stored; out = its LayerNorm times scale plus shift."""
    batch = tl.program_id(1)
    row = batch.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    channels = tl.arange(0, PIECE)
    values = tl.tuple(())
    sums = tl.zeros([PIECE], tl.float32)
    for i in tl.static_range(D // PIECE):
        at = row * D + i * PIECE + channels
        v = tl.load(x + at).to(tl.float32)
        if HAS_SUM:
            w = tl.load(y + at).to(tl.float32)
            if HAS_GATE:
                w *= tl.load(gate + batch * gate_step + i * PIECE + channels).to(tl.float32)
            rounded = (v + w).to(total.dtype.element_ty)
            tl.store(total + at, rounded)
            v = rounded.to(tl.float32)
        sums += v
        values += (v,)
    mean = tl.sum(sums, 0) / D
    squares = tl.zeros([PIECE], tl.float32)
    for i in tl.static_range(D // PIECE):
        squares += (values[i] - mean) * (values[i] - mean)
    inverse = tl.rsqrt(tl.sum(squares, 0) / D + eps)
    normed = tl.tuple(())
    for i in tl.static_range(D // PIECE):
        a = tl.load(scale + batch * scale_step + i * PIECE + channels).to(tl.float32)
        b = tl.load(shift + batch * shift_step + i * PIECE + channels).to(tl.float32)
        normed += ((values[i] - mean) * inverse * a + b,)
    if IS_ROUNDED:
        _store_rounded(normed, out, out_scale, row, D, PIECE)
    else:
        for i in tl.static_range(D // PIECE):
            tl.store(out + row * D + i * PIECE + channels, normed[i].to(out.dtype.element_ty))


@triton.jit
def rotary_kernel(
    qkv,
    scale_q,
    scale_k,
    cos,
    sin,
    q,
    k,
    eps,
    D: tl.constexpr,
    PIECE: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """Root-mean-square norm of queries or keys, then every pair turned by its token's angle."""
    tl.static_assert((PIECE // 2) % PAIRS == 0, "a piece is a number of whole heads")
    token, which = tl.program_id(0), tl.program_id(2)
    row = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + token
    scale = scale_q if which == 0 else scale_k
    out = q if which == 0 else k
    channels = tl.arange(0, PIECE)
    values = tl.tuple(())
    squares = tl.zeros([PIECE], tl.float32)
    for i in tl.static_range(D // PIECE):
        v = tl.load(qkv + (3 * row + which) * D + i * PIECE + channels).to(tl.float32)
        squares += v * v
        values += (v,)
    inverse = tl.rsqrt(tl.sum(squares, 0) / D + eps)
    angles = token * PAIRS + tl.arange(0, PIECE // 2) % PAIRS
    c, s = tl.load(cos + angles), tl.load(sin + angles)
    for i in tl.static_range(D // PIECE):
        v = values[i] * inverse * tl.load(scale + i * PIECE + channels).to(tl.float32)
        even, odd = tl.split(v.reshape(PIECE // 2, 2))
        v = tl.join(even * c - odd * s, odd * c + even * s).reshape(PIECE)
        tl.store(out + row * D + i * PIECE + channels, v.to(out.dtype.element_ty))


@triton.jit
def round_kernel(
    x,
    y,
    out,
    out_scale,
    D: tl.constexpr,
    PIECE: tl.constexpr,
    HAS_SUM: tl.constexpr,
    HAS_GELU: tl.constexpr,
):
    """x, x + y or GELU of x (by its tanh approximation) in 8 bits."""
    row = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, PIECE)
    values = tl.tuple(())
    for i in tl.static_range(D // PIECE):
        at = row * D + i * PIECE + channels
        v = tl.load(x + at).to(tl.float32)
        if HAS_SUM:
            v += tl.load(y + at).to(tl.float32)
        if HAS_GELU:  # (1 + tanh u) / 2 is 1 / (1 + e^-2u)
            v /= 1.0 + tl.exp2((v + v * v * v * _GELU_CUBE) * _GELU_SLOPE)
        values += (v,)
    _store_rounded(values, out, out_scale, row, D, PIECE)


@triton.jit
def _store_rounded(values, out, out_scale, row, D: tl.constexpr, PIECE: tl.constexpr):
    """A row in e4m3, its largest magnitude at the end of the format."""
    channels = tl.arange(0, PIECE)
    largest = tl.zeros([PIECE], tl.float32)
    for i in tl.static_range(D // PIECE):
        largest = tl.maximum(largest, tl.abs(values[i]))
    scale = tl.maximum(tl.max(largest, 0) / _LARGEST, _SMALLEST_SCALE)
    tl.store(out_scale + row, scale)
    inverse = 1.0 / scale
    for i in tl.static_range(D // PIECE):
        tl.store(out + row * D + i * PIECE + channels, (values[i] * inverse).to(tl.float8e4nv))
