"""Which row operations the blocks are compiled of on this device, found by trying."""

import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from infinitetalk.models.attention import rotary_grid
from infinitetalk.models.block import Block
from infinitetalk.models.float8 import Rows, dequantize
from infinitetalk.models.fused_rows import FUSED
from infinitetalk.models.row_ops import PLAIN, Affine, RowOps

log = logging.getLogger(__name__)

CANDIDATES: Mapping[str, RowOps] = {"cuda": FUSED}
"""Kind of device -> what is faster there than what the compiler makes of `PLAIN`."""

MAX_ERROR = 0.05  # relative (norm); rounding to 8 bits alone gives 0.026


@torch.inference_mode()
def best_row_ops(block: Block, candidates: Mapping[str, RowOps] = CANDIDATES) -> RowOps:
    """The candidate of the block's device if the block is in bfloat16 and it works, or `PLAIN`."""
    weight = block.norm3.weight
    ops = candidates.get(weight.device.type)
    if ops is None or weight.dtype != torch.bfloat16:
        return PLAIN
    try:
        error = largest_error(ops, block)
    except Exception as failure:  # compilers, linkers and drivers fail in ways of their own
        log.warning("The fused row kernels do not run here and are not used: %r", failure)
        return PLAIN
    if error < MAX_ERROR:
        return ops
    log.warning("The fused row kernels are off by %.2g here and are not used.", error)
    return PLAIN


def largest_error(ops: RowOps, block: Block) -> float:
    """Of any operation against the plain one, relative; not-a-number where a result is."""
    pairs = zip(_results(ops, block), _results(PLAIN, block), strict=True)
    errors = [(found - plain).norm() / plain.norm() for found, plain in pairs]
    return float(torch.stack(errors).amax())


def _results(ops: RowOps, block: Block) -> Iterator[Tensor]:
    """What every operation makes of a few rows, called as the block calls it."""
    qkv, q, o, narrow = block.self_attn.qkv, block.cross_attn.q, block.cross_attn.o, block.ffn[2]
    heads, d = block.self_attn.heads, block.norm3.weight.numel()
    channels = _waves(block, d)[0, 0] + 1
    by_time = Affine(channels.float().view(1, 1, d), channels.float().view(1, 1, d), block.eps)
    by_channel = Affine(channels, channels, block.eps)
    x, y = _waves(block, d), _waves(block, d).flip(-1)
    yield from map(_in_float32, (ops.norm(x, by_time, qkv), ops.add(x, y, o)))
    yield from map(_in_float32, ops.add_norm(x, y, by_time.scale, by_channel, q))
    yield _in_float32(ops.gelu(_waves(block, block.ffn.width), narrow))
    rotary = rotary_grid((1, 2, 2), d // heads, x.device)
    rotated = ops.rotary_heads(_waves(block, 3 * d), channels, channels, block.eps, rotary)
    yield from map(_in_float32, rotated)


def _waves(block: Block, width: int) -> Tensor:
    """Four rows, 1 4 width, in the block's dtype."""
    weight = block.norm3.weight
    return torch.arange(4 * width, device=weight.device).sin().to(weight.dtype).view(1, 4, width)


def _in_float32(result: Tensor | Rows) -> Tensor:
    return dequantize(*result) if isinstance(result, Rows) else result.float()
