"""Self-attention whose products are in 8 bits, with Triton (after SageAttention, arXiv 2411.10958).

What is rounded is made easy to round first, by steps that leave the result as it is:

- keys lose their mean over the tokens, which adds the same to all scores of a query;
- queries and keys are turned by one orthogonal matrix (Hadamard), so no channel is loud any more;
- values lose their mean over the tokens, which is added to the result: weights sum to 1.

Then queries are rounded to int8 with a scale for each token, keys with one for each block of
tokens, weights to e4m3 as they are, values to e4m3 with a scale for each channel. Sums are in
32 bits. A query's scores average to 0 and so its highest is not below: tokens that only fill a
block score 0, have values 0, and are taken out of the sum of weights at the end.

Two kernels attend: one in Gluon for Hopper, one in Triton for any GPU with fp8 (Ada: L40S).

Axes: b batch, h heads (bh both), n query tokens, m key tokens, d head dimension.
"""

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from infinitetalk.models import attention8_kernels as kernels
from infinitetalk.models.attention import EIGHT_BIT_HEADS

QUERIES, KEYS = 128, 64  # a block of the kernel for any GPU: 49 KB of shared memory
WARPS, STAGES = 8, 3
FLOAT8_LARGEST = 448.0

_CHUNK, _ROWS = 1024, 32  # tokens that are summarized by one program, and at once
_BLOCKS = 8  # of queries or keys that one program rounds
_ALIGNED = 128  # tokens


class Rounded(NamedTuple):
    """The inputs in 8 bits, tokens filled up with zeros."""

    q: Tensor  # (bh n) d, int8
    k: Tensor  # (bh m) d, int8
    v: Tensor  # (bh d) m, e4m3, the order within 16 tokens as `reorder` has it
    q_scale: Tensor  # bh n; scores come out in powers of two
    k_scale: Tensor  # bh m/block
    v_scale: Tensor  # bh d
    v_mean: Tensor  # bh d
    q_padded: int  # tokens of a head
    k_padded: int


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of b n h d in 8 bits, as `Attention` says.

    Raises:
        ValueError: heads of this size are not supported.
    """
    if q.shape[-1] not in EIGHT_BIT_HEADS:
        raise ValueError(f"8-bit attention takes heads of {EIGHT_BIT_HEADS}, not {q.shape[-1]}.")
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    attend = attend_hopper if is_for_hopper(q) else attend_anywhere
    with torch.cuda.device(q.device):
        return attend(q, k, v)


def is_for_hopper(q: Tensor) -> bool:
    """Whether the kernel for Hopper takes these queries."""
    return torch.cuda.get_device_capability(q.device) == (9, 0) and q.shape[-1] == 128


def attend_anywhere(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With the kernel in Triton."""
    b, n, h, d = q.shape
    r = round_inputs(q, k, v, KEYS)
    out = torch.empty((b, n, h, d), dtype=q.dtype, device=q.device)
    kernels.attend[(triton.cdiv(n, QUERIES), b * h)](
        *(r.q, r.k, r.v, r.q_scale, r.k_scale, r.v_scale, r.v_mean, out),
        *(n, k.shape[1], r.q_padded, r.k_padded, *out.stride()[:3], h),
        D=d,
        QUERIES=QUERIES,
        KEYS=KEYS,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return out


def attend_hopper(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With the kernel in Gluon."""
    from infinitetalk.models import attention8_hopper as hopper

    b, n, h, d = q.shape
    r = round_inputs(q, k, v, hopper.KEYS)
    out = torch.empty((b, n, h, d), dtype=q.dtype, device=q.device)
    hopper.attend[(triton.cdiv(n, hopper.QUERIES * hopper.GROUPS), b * h)](
        *hopper.describe(r.q, r.k, r.v),
        *(r.q_scale, r.k_scale, r.v_scale, r.v_mean, out),
        *(n, k.shape[1], r.q_padded, r.k_padded, *out.stride()[:3], h),
        D=d,
        KEYS=hopper.KEYS,
        BUFFERS=hopper.BUFFERS,
        REGISTERS=hopper.REGISTERS,
        num_warps=4,
    )
    return out


def round_inputs(q: Tensor, k: Tensor, v: Tensor, block: int) -> Rounded:
    """Everything in 8 bits; `block` keys share a scale."""
    d = q.shape[-1]
    k_mean, _, _ = summarize(k)
    v_mean, v_low, v_high = summarize(v)
    largest = torch.maximum(v_high - v_mean, v_mean - v_low)
    v_scale = largest.clamp(min=torch.finfo(torch.float32).tiny * 1e4) / FLOAT8_LARGEST
    to_powers_of_two = math.log2(math.e) / math.sqrt(d)
    q8, q_scale, q_padded = _round_rotated(q, None, 64, to_powers_of_two)
    k8, k_scale, k_padded = _round_rotated(k, k_mean, block, 1.0)
    v8 = _round_values(v, v_mean, v_scale, k_padded)
    return Rounded(q8, k8, v8, q_scale, k_scale, v_scale, v_mean, q_padded, k_padded)


def summarize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, least and greatest value of each channel over the tokens, bh d each."""
    b, n, h, d = x.shape
    chunks = triton.cdiv(n, _CHUNK)
    sums, lows, highs = torch.empty((3, chunks, b * h, d), device=x.device)
    kernels.summarize[(chunks, b * h)](
        *(x, sums, lows, highs, n, *x.stride()[:3], h), CHUNK=_CHUNK, ROWS=_ROWS, D=d
    )
    return sums.sum(0) / n, lows.amin(0), highs.amax(0)


def _round_rotated(
    x: Tensor, mean: Tensor | None, rows: int, factor: float
) -> tuple[Tensor, Tensor, int]:
    """Values, scales times `factor`, and tokens of a head with the padding."""
    b, n, h, d = x.shape
    padded = triton.cdiv(n, _ALIGNED) * _ALIGNED
    values = torch.empty((b * h * padded, d), dtype=torch.int8, device=x.device)
    scales = torch.empty((b * h, padded if mean is None else padded // rows), device=x.device)
    kernels.round_rotated[(triton.cdiv(padded, rows * _BLOCKS), b * h)](
        *(x, x if mean is None else mean, values, scales, n, padded, *x.stride()[:3], h, factor),
        ROWS=rows,
        BLOCKS=_BLOCKS,
        D=d,
        IS_KEY=mean is not None,
        num_warps=rows // 16,
        num_stages=2,
    )
    return values, scales, padded


def _round_values(x: Tensor, mean: Tensor, scale: Tensor, padded: int) -> Tensor:
    b, m, h, d = x.shape
    values = torch.empty((b * h * d, padded), dtype=torch.float8_e4m3fn, device=x.device)
    kernels.round_values[(padded // _ALIGNED, b * h)](
        *(x, mean, scale, values, m, padded, *x.stride()[:3], h), ROWS=_ALIGNED, D=d, num_warps=8
    )
    return values
