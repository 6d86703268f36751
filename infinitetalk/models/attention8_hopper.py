"""The 8-bit attention for Hopper (sm_90): three warp groups compute, one warp fetches.

In Gluon, Triton's lower level, because what makes it fast cannot be said in Triton: while one warp
group exponentiates, the tensor cores multiply for the others. Each warp group has 64 queries; all
three share the blocks of keys and values that the fetching warp brings (TMA) into two buffers.
Names and axes as in attention8_kernels.py.
"""

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

QUERIES = 64  # of one warp group
GROUPS = 3
KEYS = 128
BUFFERS = 2
REGISTERS = 160  # of a thread that computes: 3 * 128 * 160 of the 65,536 there are

_TOP = gl.constexpr(8.0)
_QUERIES, _GROUPS = gl.constexpr(QUERIES), gl.constexpr(GROUPS)


def describe(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[TensorDescriptor, ...]:
    """q, k and v as the copy engine wants to be told of them; rows of 128 bytes."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)
    d = q.shape[1]
    blocks = ((q, [QUERIES, d]), (k, [KEYS, d]), (v, [d, KEYS]))
    return tuple(TensorDescriptor.from_tensor(x, block, layout) for x, block in blocks)


@gluon.jit
def _fetch(
    q,
    k,
    v,
    buffers,
    barriers,
    rows,
    blocks,
    KEYS: gl.constexpr,
    BUFFERS: gl.constexpr,
):
    """Bring the queries once, and each block of keys and values when its buffer is free."""
    queries, keys, values = buffers
    queries_here, keys_here, keys_done, values_here, values_done = barriers
    q_row, k_row, v_row = rows
    mbarrier.expect(queries_here, _GROUPS * q.block_type.nbytes)
    for group in gl.static_range(_GROUPS):
        tma.async_copy_global_to_shared(
            q, [q_row + group * _QUERIES, 0], queries_here, queries.index(group)
        )
    for j in range(blocks):
        i, phase = j % BUFFERS, (j // BUFFERS) & 1
        mbarrier.wait(keys_done.index(i), phase ^ 1)
        mbarrier.expect(keys_here.index(i), k.block_type.nbytes)
        tma.async_copy_global_to_shared(k, [k_row + j * KEYS, 0], keys_here.index(i), keys.index(i))
        mbarrier.wait(values_done.index(i), phase ^ 1)
        mbarrier.expect(values_here.index(i), v.block_type.nbytes)
        tma.async_copy_global_to_shared(v, [v_row, j * KEYS], values_here.index(i), values.index(i))


@gluon.jit
def _compute(
    group,
    buffers,
    barriers,
    scales,
    out,
    sizes,
    blocks,
    D: gl.constexpr,
    KEYS: gl.constexpr,
    BUFFERS: gl.constexpr,
):
    """Attention of the queries of one warp group."""
    queries, keys, values = buffers
    queries_here, keys_here, keys_done, values_here, values_done = barriers
    q_scale, k_scale, v_scale, v_mean = scales
    first, n, q_padded, padding, stride_n = sizes
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 32])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 32])
    BY_SCORE: gl.constexpr = gl.SliceLayout(1, SCORES)
    BY_SUM: gl.constexpr = gl.SliceLayout(1, SUMS)
    rows = first + group * _QUERIES + gl.arange(0, _QUERIES, BY_SCORE)
    row_scale = gl.load(q_scale + rows, mask=rows < q_padded, other=1.0)
    sums = gl.zeros([_QUERIES, D], gl.float32, SUMS)
    peak = gl.full([_QUERIES], -1e30, gl.float32, BY_SCORE)
    total = gl.zeros([_QUERIES], gl.float32, BY_SCORE)
    mbarrier.wait(queries_here, 0)
    for j in range(blocks):
        i, phase = j % BUFFERS, (j // BUFFERS) & 1
        scale = row_scale * gl.load(k_scale + j)
        mbarrier.wait(keys_here.index(i), phase)
        nothing = gl.zeros([_QUERIES, KEYS], gl.int32, SCORES)
        scores = warpgroup_mma(
            queries.index(group),
            keys.index(i).permute((1, 0)),
            nothing,
            use_acc=False,
            is_async=True,
        )
        scores = warpgroup_mma_wait(0, (scores,)).to(gl.float32)
        mbarrier.arrive(keys_done.index(i), count=1)
        higher = gl.maximum(peak, gl.max(scores, 1) * scale)
        shrink = gl.exp2(peak - higher)
        slope = scale[:, None].broadcast_to(scores.shape)
        p = gl.exp2(gl.fma(scores, slope, (_TOP - higher)[:, None].broadcast_to(scores.shape)))
        total = total * shrink + gl.sum(p, 1)
        p = p.to(gl.float8e4nv).reshape([_QUERIES, KEYS // 16, 2, 4, 2])
        p = p.permute((0, 1, 3, 2, 4)).reshape([_QUERIES, KEYS])  # as `reorder` does
        p = gl.convert_layout(p, gl.DotOperandLayout(0, SUMS, 4))
        sums = sums * gl.convert_layout(shrink, BY_SUM)[:, None]
        mbarrier.wait(values_here.index(i), phase)
        sums = warpgroup_mma(p, values.index(i).permute((1, 0)), sums, is_async=True)
        sums = warpgroup_mma_wait(0, (sums,))
        mbarrier.arrive(values_done.index(i), count=1)
        peak = higher
    total -= padding * gl.exp2(-peak + _TOP)  # padding scores 0
    d = gl.arange(0, D, gl.SliceLayout(0, SUMS))
    y = sums / gl.convert_layout(total, BY_SUM)[:, None] * gl.load(v_scale + d)[None, :]
    y += gl.load(v_mean + d)[None, :]
    rows = first + group * _QUERIES + gl.arange(0, _QUERIES, BY_SUM)
    to = out + rows[:, None].to(gl.int64) * stride_n + d[None, :]
    gl.store(to, y.to(out.dtype.element_ty), mask=(rows < n)[:, None])


@gluon.jit
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
    D: gl.constexpr,
    KEYS: gl.constexpr,
    BUFFERS: gl.constexpr,
    REGISTERS: gl.constexpr,
):
    """Attention of 192 queries of a head; q, k and v are tensor descriptors."""
    block, bh = gl.program_id(0), gl.program_id(1)
    first = block * _QUERIES * _GROUPS
    blocks = (m + KEYS - 1) // KEYS
    barrier: gl.constexpr = mbarrier.MBarrierLayout()
    queries = gl.allocate_shared_memory(q.dtype, [_GROUPS, _QUERIES, D], q.layout)
    keys = gl.allocate_shared_memory(k.dtype, [BUFFERS, KEYS, D], k.layout)
    values = gl.allocate_shared_memory(v.dtype, [BUFFERS, D, KEYS], v.layout)
    queries_here = gl.allocate_shared_memory(gl.int64, [1], barrier)
    keys_here = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], barrier)
    keys_done = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], barrier)
    values_here = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], barrier)
    values_done = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], barrier)
    mbarrier.init(queries_here, count=1)
    for i in gl.static_range(BUFFERS):
        mbarrier.init(keys_here.index(i), count=1)
        mbarrier.init(values_here.index(i), count=1)
        mbarrier.init(keys_done.index(i), count=_GROUPS)
        mbarrier.init(values_done.index(i), count=_GROUPS)
    fence_async_shared()
    out += (bh // heads).to(gl.int64) * stride_b + (bh % heads) * stride_h
    buffers = (queries, keys, values)
    barriers = (queries_here, keys_here, keys_done, values_here, values_done)
    scales = (
        q_scale + bh * q_padded,
        k_scale + bh * (k_padded // KEYS),
        v_scale + bh * D,
        v_mean + bh * D,
    )
    sizes = (first, n, q_padded, (blocks * KEYS - m).to(gl.float32), stride_n)
    rows = (bh * q_padded + first, bh * k_padded, bh * D)
    gl.warp_specialize(
        [
            (_compute, (0, buffers, barriers, scales, out, sizes, blocks, D, KEYS, BUFFERS)),
            (_compute, (1, buffers, barriers, scales, out, sizes, blocks, D, KEYS, BUFFERS)),
            (_compute, (2, buffers, barriers, scales, out, sizes, blocks, D, KEYS, BUFFERS)),
            (_fetch, (q, k, v, buffers, barriers, rows, blocks, KEYS, BUFFERS)),
        ],
        [4, 4, 1],
        [REGISTERS, REGISTERS, 24],
    )
