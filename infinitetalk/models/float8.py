"""Linear layers in 8-bit floating point: e4m3 weights and activations, one scale for every row.

A row is an output channel of the weight and a token of the activations. Scales of weights are
stored, scales of activations are computed in every forward. What multiplies is a plain function,
chosen once per device by a probe and handed to the layers.

Axes: m tokens (or rows), k input channels, n output channels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max  # 448
_SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of a row of zeros: it can be divided by
_MULTIPLE = 16  # of k and n: what the kernels of the devices take


class Rows(NamedTuple):
    """A quantised matrix: e4m3 values m k and a float32 scale m for its rows.

    Of activations m may be several axes.
    """

    values: Tensor
    scale: Tensor


Kernel = Callable[[Rows, Rows, Tensor | None, torch.dtype], Tensor]
"""(tokens m k, weight n k, bias n, dtype) -> m n of that dtype."""


def quantize_rows(x: Tensor) -> Rows:
    """Round ... k to e4m3 with scales that map the largest magnitude of a row to 448.

    Nothing is clamped: a quotient a hair above 448 rounds to 448, as all do up to 464.
    """
    largest = torch.linalg.vector_norm(x, torch.inf, -1)
    scale = (largest.float() / LARGEST).clamp(min=_SMALLEST_SCALE)
    values = x / scale[..., None]  # in float32
    return Rows(values.to(FLOAT8, memory_format=torch.contiguous_format), scale)


def dequantize(values: Tensor, scale: Tensor) -> Tensor:
    """The inverse of `quantize_rows` up to its rounding, in float32."""
    return values.float() * scale[..., None]


def rowwise(x: Rows, weight: Rows, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The kernel that scales rows and columns itself (Hopper; Ada with newer torch)."""
    y = torch._scaled_mm(
        x.values,
        weight.values.t(),
        scale_a=x.scale[:, None],
        scale_b=weight.scale[None],
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,  # it gives no other
        use_fast_accum=True,
    )
    return y.to(dtype)


def per_tensor(x: Rows, weight: Rows, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The kernel with one scale for all, here 1; the scales of rows follow, after a rounding."""
    one = x.scale.new_ones(())
    y = torch._scaled_mm(
        x.values,
        weight.values.t(),
        scale_a=one,
        scale_b=one,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
    return _rescale(y, x, weight, bias, dtype)


def emulated(x: Rows, weight: Rows, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The same values multiplied in float32: runs everywhere, saves memory and no time."""
    y = F.linear(x.values.float(), weight.values.float())
    return _rescale(y, x, weight, bias, dtype)


def _rescale(y: Tensor, x: Rows, weight: Rows, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    y = y * x.scale[:, None] * weight.scale
    return (y if bias is None else y + bias).to(dtype)


KERNELS: Mapping[str, Sequence[Kernel]] = {"cuda": (rowwise, per_tensor)}
"""Kind of device -> what may work there, best first."""


def float8_kernel(
    device: torch.device, kernels: Mapping[str, Sequence[Kernel]] = KERNELS
) -> Kernel:
    """The first kernel that works on `device`, found by trying; `emulated` where none does."""
    candidates = kernels.get(device.type, ())
    return next((kernel for kernel in candidates if _works(kernel, device)), emulated)


def _works(kernel: Kernel, device: torch.device) -> bool:
    """Whether the kernel runs here and gives what the emulation gives, up to bfloat16."""
    values = torch.linspace(-1, 1, 64 * 32, device=device).reshape(64, 32)
    x, weight, bias = quantize_rows(values[:7]), quantize_rows(values), values[:, 0]
    try:
        y = kernel(x, weight, bias, torch.float32)
    except RuntimeError:  # the device, the driver or this torch has no such kernel
        return False
    return torch.allclose(y, emulated(x, weight, bias, torch.float32), 0.02, 0.02)


class Float8Linear(nn.Module):
    """A linear layer whose product is in e4m3; input, output and bias keep their precision."""

    def __init__(self, weight: Rows, bias: Tensor | None, kernel: Kernel = emulated) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.values.shape
        self.weight_float8 = nn.Parameter(weight.values, requires_grad=False)
        self.weight_scale = nn.Parameter(weight.scale, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        is_aligned = self.in_features % _MULTIPLE == self.out_features % _MULTIPLE == 0
        self.kernel = kernel if is_aligned else emulated

    @property
    def weight(self) -> None:
        """Nothing: code that finds a tensor here would cast activations to its dtype, unscaled
        (umT5 of transformers does)."""

    def forward(self, x: Tensor | Rows) -> Tensor:
        """... k -> ... n, in the dtype of x; of rows that are rounded already in bfloat16."""
        rows, dtype = (x, torch.bfloat16) if isinstance(x, Rows) else (quantize_rows(x), x.dtype)
        shape = (*rows.scale.shape, self.out_features)
        if rows.scale.numel() == 0:
            return rows.scale.new_empty(shape, dtype=dtype)
        rows = Rows(rows.values.reshape(-1, self.in_features), rows.scale.flatten())
        weight = Rows(self.weight_float8, self.weight_scale)
        return self.kernel(rows, weight, self.bias, dtype).reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def quantize_linears(network: nn.Module, names: Collection[str], kernel: Kernel = emulated) -> None:
    """Replace the linear layers of these names, weights included; works on "meta" too."""
    for name in names:
        linear = network.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.detach()
        rows = _unfilled(weight) if weight.is_meta else quantize_rows(weight)
        network.set_submodule(name, Float8Linear(rows, linear.bias, kernel))


def _unfilled(weight: Tensor) -> Rows:
    """The shapes of a quantised weight; computing them on "meta" is slow."""
    return Rows(torch.empty_like(weight, dtype=FLOAT8), weight.new_empty(len(weight)).float())
