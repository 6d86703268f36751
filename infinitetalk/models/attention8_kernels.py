"""Triton kernels of the 8-bit attention: rounding, and the attention for any GPU with fp8.

What they compute is told in attention8.py; the attention for Hopper is in attention8_hopper.py.

Axes: b batch, h heads (bh both), n query tokens, m key tokens, d head dimension. Tensors that come
from outside are b n h d with any strides but 1 for d; ours are bh n d, values bh d m. The padding
of ours is zeros.
"""

import triton
import triton.language as tl

_MAGIC_BITS = tl.constexpr(0x4B400000)  # as a float 1.5 * 2^23: its last bit stands for 1, so an
_MAGIC = tl.constexpr(12582912.0)  # integer added to the bits is added to the number
_TOP = tl.constexpr(8.0)  # weights are up to 2^8: most of the range of e4m3 (448)
_EMPTY = tl.constexpr(1e-20)  # the largest value of a block of zeros


@triton.jit
def summarize(
    x,
    sums,
    lows,
    highs,
    n,
    stride_b,
    stride_n,
    stride_h,
    heads,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
):
    """Sum, least and greatest value of each channel over a chunk of tokens: chunks bh d."""
    chunk, bh = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    base = x + (bh // heads).to(tl.int64) * stride_b + (bh % heads) * stride_h + d[None, :]
    total = tl.zeros([ROWS, D], tl.float32)
    low = tl.full([ROWS, D], float("inf"), tl.float32)
    high = tl.full([ROWS, D], float("-inf"), tl.float32)
    for i in range(CHUNK // ROWS):
        rows = chunk * CHUNK + i * ROWS + tl.arange(0, ROWS)
        inside = (rows < n)[:, None]
        at = base + rows[:, None].to(tl.int64) * stride_n
        y = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        total += y
        low = tl.minimum(low, tl.where(inside, y, float("inf")))
        high = tl.maximum(high, tl.where(inside, y, float("-inf")))
    to = (chunk * tl.num_programs(1) + bh) * D + d
    tl.store(sums + to, tl.sum(total, 0))
    tl.store(lows + to, tl.min(low, 0))
    tl.store(highs + to, tl.max(high, 0))


@triton.jit
def _hadamard(D: tl.constexpr):
    """1 or -1 by the parity of the bits that indices share: sqrt d times an orthogonal matrix."""
    shared = tl.arange(0, D)[:, None] & tl.arange(0, D)[None, :]
    shared ^= shared >> 4
    shared ^= shared >> 2
    shared ^= shared >> 1
    return 1.0 - 2.0 * (shared & 1).to(tl.float32)


@triton.jit
def round_rotated(
    x,
    mean,
    values,
    scales,
    n,
    padded,
    stride_b,
    stride_n,
    stride_h,
    heads,
    factor,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    D: tl.constexpr,
    IS_KEY: tl.constexpr,
):
    """Queries or keys to int8, rotated: BLOCKS blocks of ROWS tokens.

    Queries get a scale per token, times `factor`; keys lose their mean and get one per block. The
    rotation multiplies the input as it is by ones: nothing is rounded before the end.
    """
    bh = tl.program_id(1)
    d = tl.arange(0, D)
    base = x + (bh // heads).to(tl.int64) * stride_b + (bh % heads) * stride_h + d[None, :]
    rotation = _hadamard(D)
    middle = tl.zeros([1, D], tl.float32)
    if IS_KEY:
        middle = tl.sum(tl.load(mean + bh * D + d)[:, None] * rotation, 0)[None, :]
    rotation = rotation.to(x.dtype.element_ty)
    first = tl.program_id(0) * BLOCKS
    for block in range(first, min(first + BLOCKS, padded // ROWS)):
        rows = block * ROWS + tl.arange(0, ROWS)
        inside = (rows < n)[:, None]
        at = base + rows[:, None].to(tl.int64) * stride_n
        y = tl.dot(tl.load(at, mask=inside, other=0.0), rotation)
        y = tl.where(inside, y - middle, 0.0) * (D**-0.5)
        largest = tl.max(tl.abs(y), 1)
        if IS_KEY:
            step = tl.maximum(tl.max(largest, 0), _EMPTY) / 127.0
            z = y * (1.0 / step)
            tl.store(scales + bh * (padded // ROWS) + block, step * factor)
        else:
            step = tl.maximum(largest, _EMPTY) / 127.0
            z = y * (1.0 / step)[:, None]
            tl.store(scales + bh * padded + rows, step * factor)
        to = values + (bh.to(tl.int64) * padded + rows[:, None]) * D + d[None, :]
        tl.store(to, tl.floor(z + 0.5).to(tl.int8))


@triton.jit
def round_values(
    x,
    mean,
    scale,
    values,
    m,
    padded,
    stride_b,
    stride_n,
    stride_h,
    heads,
    ROWS: tl.constexpr,
    D: tl.constexpr,
):
    """Values to e4m3 without their mean, transposed to bh d m, tokens in the order of `reorder`."""
    block, bh = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    i = tl.arange(0, ROWS)
    rows = block * ROWS + ((i & ~14) | ((i >> 1) & 6) | ((i & 2) << 2))
    inside = (rows < m)[:, None]
    base = x + (bh // heads).to(tl.int64) * stride_b + (bh % heads) * stride_h + d[None, :]
    y = tl.load(base + rows[:, None].to(tl.int64) * stride_n, mask=inside, other=0.0)
    y = (y.to(tl.float32) - tl.load(mean + bh * D + d)[None, :]) * (
        1.0 / tl.load(scale + bh * D + d)[None, :]
    )
    y = tl.where(inside, y, 0.0).to(tl.float8e4nv)
    to = values + (bh.to(tl.int64) * D + d[:, None]) * padded + block * ROWS + i[None, :]
    tl.store(to, tl.trans(y))


@triton.jit
def reorder(p, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Weights of 16 keys in the order in which a thread that has them must feed them back.

    The product with the queries leaves a thread keys 0, 1, 8 and 9 of 16 (another 2, 3, 10, 11 and
    so on); the product with the values wants four neighbours. So they are called neighbours, in
    the stored values as well, and no weight has to move between threads.
    """
    p = p.reshape(ROWS, COLUMNS // 16, 2, 4, 2)
    return p.permute(0, 1, 3, 2, 4).reshape(ROWS, COLUMNS)


@triton.jit
def attend(
    q,
    k,
    v,
    q_scale,
    k_scale,
    v_scale,
    v_mean,
    out,
    n,
    m,
    q_padded,
    k_padded,
    stride_b,
    stride_n,
    stride_h,
    heads,
    D: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Attention of a block of queries, with an online softmax in powers of two.

    Sums of values are taken block by block in float32: in 8 bits the tensor cores keep fewer digits
    than that while they add.
    """
    block, bh = tl.program_id(0), tl.program_id(1)
    rows = block * QUERIES + tl.arange(0, QUERIES)
    keys = tl.arange(0, KEYS)
    d = tl.arange(0, D)
    row_scale = tl.load(q_scale + bh * q_padded + rows)
    queries = tl.load(q + (bh.to(tl.int64) * q_padded + rows[:, None]) * D + d[None, :])
    k_at = k + (bh.to(tl.int64) * k_padded + keys[:, None]) * D + d[None, :]
    v_at = v + (bh.to(tl.int64) * D + d[:, None]) * k_padded + keys[None, :]
    k_scale += bh * (k_padded // KEYS)
    sums = tl.zeros([QUERIES, D], tl.float32)
    peak = tl.full([QUERIES], -1e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    blocks = tl.cdiv(m, KEYS)
    for j in range(blocks):
        keys8 = tl.load(k_at + j * KEYS * D)
        values8 = tl.load(v_at + j * KEYS)
        scale = row_scale * tl.load(k_scale + j)
        magic = tl.full([QUERIES, KEYS], _MAGIC_BITS, tl.int32)
        scores = tl.dot(queries, tl.trans(keys8), magic, out_dtype=tl.int32)
        scores = scores.to(tl.float32, bitcast=True)
        higher = tl.maximum(peak, (tl.max(scores, 1) - _MAGIC) * scale)
        shrink = tl.exp2(peak - higher)
        offset = higher + scale * _MAGIC - _TOP
        p = tl.exp2(tl.fma(scores, scale[:, None], -offset[:, None]))
        total = total * shrink + tl.sum(p, 1)
        p = reorder(p.to(tl.float8e4nv), QUERIES, KEYS)
        sums = tl.fma(sums, shrink[:, None], tl.dot(p, tl.trans(values8)))
        peak = higher
    total -= (blocks * KEYS - m).to(tl.float32) * tl.exp2(-peak + _TOP)  # padding scores 0
    y = sums / total[:, None] * tl.load(v_scale + bh * D + d)[None, :]
    y += tl.load(v_mean + bh * D + d)[None, :]
    to = out + (bh // heads).to(tl.int64) * stride_b + (bh % heads) * stride_h + d[None, :]
    to += rows[:, None].to(tl.int64) * stride_n
    tl.store(to, y.to(out.dtype.element_ty), mask=(rows < n)[:, None])
