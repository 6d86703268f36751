"""The row operations of a block as one Triton kernel each: operators that a compiler knows.

Where the layer that reads the result is in 8 bits, the kernel rounds too. What a compiler does as
well by itself stays plain: sums and GELU that nobody rounds.

The operators have a CPU version made of the plain operations, which says what the kernels compute.

Axes: b batch, n tokens, h heads, d width (of a head where h stands beside it).
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.models import row_ops
from infinitetalk.models.attention import RotaryTable
from infinitetalk.models.float8 import FLOAT8, Float8Linear, Rows, quantize_rows
from infinitetalk.models.row_ops import Affine, Input, RowOps


def norm(x: Tensor, affine: Affine, reader: nn.Module) -> Input:
    """As `row_ops.norm`."""
    return _as_input(*_add_norm(x, None, None, *affine, _is_float8(reader)))


def add_norm(
    x: Tensor, y: Tensor, gate: Tensor | None, affine: Affine, reader: nn.Module
) -> tuple[Tensor, Input]:
    """As `row_ops.add_norm`."""
    total, *result = _add_norm(x, y, gate, *affine, _is_float8(reader))
    return total, _as_input(*result)


def rotary_heads(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, rotary: RotaryTable
) -> tuple[Tensor, Tensor]:
    """As `row_ops.rotary_heads`."""
    return _rotary_heads(qkv, scale_q, scale_k, eps, *rotary)


def add(x: Tensor, y: Tensor | None, reader: nn.Module) -> Input:
    """As `row_ops.add`."""
    if not _is_float8(reader):
        return row_ops.add(x, y, reader)
    return Rows(*_round_rows(x, y, False))


def gelu(x: Tensor, reader: nn.Module) -> Input:
    """As `row_ops.gelu`."""
    if not _is_float8(reader):
        return row_ops.gelu(x, reader)
    return Rows(*_round_rows(x, None, True))


FUSED = RowOps(norm, add_norm, rotary_heads, add, gelu)


def _is_float8(reader: nn.Module) -> bool:
    return isinstance(reader, Float8Linear)


def _as_input(values: Tensor, scale: Tensor | None = None) -> Input:
    return values if scale is None else Rows(values, scale)


# -- the operators -----------------------------------------------------------------------------


def _run(kernel: str, x: Tensor, *arguments: object) -> Any:
    """A function of row_kernels.py, loaded by the first call: Triton is where GPUs are."""
    module = importlib.import_module("infinitetalk.models.row_kernels")
    with torch.cuda.device(x.device):
        return getattr(module, kernel)(x, *arguments)


@torch.library.custom_op("infinitetalk::add_norm", mutates_args=(), device_types="cuda")
def _add_norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_rounded: bool,
) -> list[Tensor]:
    """x + gate y if there is a y; its norm; the scale of its rows if they are rounded."""
    return _run("add_norm", x, y, gate, scale, shift, eps, is_rounded)


@_add_norm.register_kernel("cpu")
def _(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_rounded: bool,
) -> list[Tensor]:
    total = x if y is None else row_ops.add_residual(x, y, gate)
    h = row_ops.layer_norm(total, eps) * scale + shift
    result = list(quantize_rows(h)) if is_rounded else [h.to(x.dtype)]
    return result if y is None else [total, *result]


@_add_norm.register_fake
def _(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_rounded: bool,
) -> list[Tensor]:
    result = _empty_rows(x) if is_rounded else [_empty(x)]
    return result if y is None else [_empty(x), *result]


@torch.library.custom_op("infinitetalk::rotary_heads", mutates_args=(), device_types="cuda")
def _rotary_heads(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries and keys."""
    return _run("rotary_heads", qkv, scale_q, scale_k, eps, cos, sin)


@_rotary_heads.register_kernel("cpu")
def _(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    return row_ops.rotary_heads(qkv, scale_q, scale_k, eps, (cos, sin))


@_rotary_heads.register_fake
def _(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    d, head = len(scale_q), 2 * cos.shape[-1]
    shape = (*qkv.shape[:-1], d // head, head)
    return qkv.new_empty(shape), qkv.new_empty(shape)


@torch.library.custom_op("infinitetalk::round_rows", mutates_args=(), device_types="cuda")
def _round_rows(x: Tensor, y: Tensor | None, has_gelu: bool) -> tuple[Tensor, Tensor]:
    """x, x + y or GELU of x in 8 bits, and the scale of its rows."""
    return _run("round_rows", x, y, has_gelu)


@_round_rows.register_kernel("cpu")
def _(x: Tensor, y: Tensor | None, has_gelu: bool) -> tuple[Tensor, Tensor]:
    total = x.float() if y is None else x.float() + y.float()
    return quantize_rows(torch.nn.functional.gelu(total, approximate="tanh") if has_gelu else total)


@_round_rows.register_fake
def _(x: Tensor, y: Tensor | None, has_gelu: bool) -> tuple[Tensor, Tensor]:
    values, scale = _empty_rows(x)
    return values, scale


def _empty(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _empty_rows(x: Tensor) -> list[Tensor]:
    return [x.new_empty(x.shape, dtype=FLOAT8), x.new_empty(x.shape[:-1], dtype=torch.float32)]
