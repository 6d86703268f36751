"""Triton kernels between the convolutions of the VAE; what they are for is told in vae_fused.py.

Rows are pixels, of one frame after another; each has its channels in a row. float16.
"""

import triton
import triton.language as tl

_LARGEST = tl.constexpr(65504.0)  # of float16


@triton.jit
def _in_range(x):
    x = tl.where(x > _LARGEST, _LARGEST, x)
    return tl.where(x < -_LARGEST, -_LARGEST, x)


@triton.jit(do_not_specialize=["rows", "frame"])
def activate(
    x,
    bias,
    gamma,
    out,
    rows,
    frame,  # rows
    x_stride,
    out_stride,
    root,
    HAS_BIAS: tl.constexpr,
    COPIES: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """SiLU of the RMS norm of x + bias; a copy goes to each of the next frames, in front."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    known = channel < CHANNELS
    inside = (row < rows)[:, None] & known[None, :]
    at = batch * x_stride + row[:, None] * CHANNELS + channel[None, :]
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        y += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    y = _in_range(y)
    norm = tl.sqrt(tl.sum(y * y, 1)) + 1e-12
    scale = tl.load(gamma + channel, mask=known, other=0.0).to(tl.float32)
    y = y * (root / norm)[:, None] * scale[None, :]
    y = _in_range(y * tl.sigmoid(y)).to(tl.float16)
    for later in tl.static_range(COPIES):
        there = row + later * frame
        place = (COPIES - 1 - later) * CHANNELS + channel
        to = batch * out_stride + there[:, None] * (COPIES * CHANNELS) + place[None, :]
        tl.store(out + to, y, mask=inside & (there < rows)[:, None])


@triton.jit(do_not_specialize=["rows"])
def add(
    x,
    bias,
    shortcut,
    out,
    rows,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """x + bias + shortcut."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    known = channel < CHANNELS
    inside = (row < rows)[:, None] & known[None, :]
    at = row[:, None] * CHANNELS + channel[None, :]
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    y += tl.load(shortcut + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, _in_range(y).to(tl.float16), mask=inside)
