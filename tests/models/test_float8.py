"""e4m3 keeps 4 significant bits: a value is off by 1/16 at most, by 2.6 % on average (root mean
square, all significands alike). A product of two quantised matrices adds both errors: 3.7 %."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.models.float8 import (
    FLOAT8,
    LARGEST,
    Float8Linear,
    Kernel,
    Rows,
    dequantize,
    emulated,
    float8_kernel,
    per_tensor,
    quantize_linears,
    quantize_rows,
    rowwise,
)

CPU = torch.device("cpu")
CPU_KERNELS = [k for k in (rowwise, per_tensor) if float8_kernel(CPU, {"cpu": (k,)}) is k]
"""Those of GPUs that this torch has for CPUs too; 2.11 has the second one only."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float((value.float() - truth.float()).norm() / truth.float().norm())


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias)
    layer.weight.data = draw(outputs, inputs, seed=1) / math.sqrt(inputs)
    return layer.requires_grad_(False)


def packed(layer: nn.Linear, kernel: Kernel = emulated) -> Float8Linear:
    return Float8Linear(quantize_rows(layer.weight), layer.bias, kernel)


ROWS = {
    "normal": draw(8, 64),
    "of very different sizes": draw(8, 64) * torch.logspace(-30, 30, 8)[:, None],
    "with an outlier": draw(8, 64).index_fill(1, torch.tensor([3]), 1000.0),
    "small": draw(8, 64) * 1e-20,
    "large": draw(8, 64).sign() * torch.finfo(torch.float32).max,
    "in bfloat16": draw(8, 64).bfloat16(),
    "of zeros": torch.zeros(8, 64),
    "transposed": draw(64, 8).t(),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_value_is_off_by_a_sixteenth_or_half_the_smallest_step_of_its_row(name: str) -> None:
    x = ROWS[name].float()
    rows = quantize_rows(ROWS[name])
    smallest_step = rows.scale[:, None] * 2.0**-9
    bound = torch.maximum(x.abs() / 16, smallest_step / 2) * 1.00001
    assert ((dequantize(*rows) - x).abs() <= bound).all()


@pytest.mark.parametrize("name", ROWS)
def test_the_largest_value_of_a_row_becomes_the_largest_of_the_format(name: str) -> None:
    rows = quantize_rows(ROWS[name])
    largest = rows.values.float().abs().amax(1)
    expected = 0.0 if name == "of zeros" else LARGEST
    assert largest.tolist() == [expected] * 8


def test_no_row_is_beyond_the_format() -> None:
    """Nothing is clamped, so quotients above 464 would be not-a-number."""
    rows = quantize_rows(draw(4000, 16) * torch.logspace(-12, 12, 4000)[:, None])
    assert rows.values.float().isfinite().all()


def test_quantised_rows_lie_one_after_another() -> None:
    """The kernels read them so, however the input lay."""
    rows = quantize_rows(draw(64, 8).t())
    assert rows.values.dtype == FLOAT8 and rows.scale.dtype == torch.float32
    assert rows.values.is_contiguous()


def test_bfloat16_is_scaled_in_float32() -> None:
    x = draw(8, 64).bfloat16()
    ours, theirs = quantize_rows(x), quantize_rows(x.float())
    assert torch.equal(ours.values.float(), theirs.values.float())
    assert torch.equal(ours.scale, theirs.scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_off_by_both_roundings(dtype: torch.dtype, bias: bool) -> None:
    layer, x = linear(512, 256, bias=bias), draw(100, 512, seed=2).to(dtype)
    y = packed(layer)(x)
    assert y.dtype == dtype
    assert 0.03 < relative_error(y, layer(x.float())) < 0.042


def test_the_emulation_multiplies_what_was_quantised() -> None:
    x, weight, bias = quantize_rows(draw(9, 40)), quantize_rows(draw(24, 40, seed=1)), draw(24)
    y = emulated(x, weight, bias, torch.float32)
    torch.testing.assert_close(y, F.linear(dequantize(*x), dequantize(*weight), bias))


@pytest.mark.parametrize("kernel", CPU_KERNELS)
@pytest.mark.parametrize("bias", [draw(32, seed=3), None], ids=["bias", "no bias"])
def test_the_kernels_of_gpus_give_what_the_emulation_gives(
    kernel: Kernel, bias: Tensor | None
) -> None:
    """They round to bfloat16 on the way: 2^-8."""
    x, weight = quantize_rows(draw(9, 64)), quantize_rows(draw(32, 64, seed=1))
    expected = emulated(x, weight, bias, torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        y = kernel(x, weight, bias, dtype)
        assert y.dtype == dtype
        assert relative_error(y, expected) < 2**-8


def missing(_x: Rows, _weight: Rows, _bias: Tensor | None, _dtype: torch.dtype) -> Tensor:
    raise NotImplementedError("this device has no such kernel")


def wrong(x: Rows, weight: Rows, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Forgets the scales of the weight."""
    return emulated(x, Rows(weight.values, torch.ones_like(weight.scale)), bias, dtype)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ((per_tensor, missing), per_tensor),
        ((missing, per_tensor), per_tensor),
        ((wrong, per_tensor), per_tensor),
        ((missing, wrong), emulated),
        ((), emulated),
    ],
)
def test_the_first_kernel_that_works_is_chosen(
    candidates: tuple[Kernel, ...], chosen: Kernel
) -> None:
    assert float8_kernel(CPU, {"cpu": candidates}) is chosen


def test_a_cpu_emulates() -> None:
    assert float8_kernel(CPU) is emulated


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [0, 1, 7, 100])
def test_the_kernel_of_this_gpu_gives_what_the_emulation_gives(
    dtype: torch.dtype, tokens: int
) -> None:
    device = torch.device("cuda")
    layer, x = linear(512, 256), draw(tokens, 512, seed=2).to(dtype)
    found = packed(layer.to(device), float8_kernel(device))(x.to(device))
    assert found.dtype == dtype
    expected = packed(layer.cpu())(x)
    assert found.shape == expected.shape
    if tokens:  # quotients on the edge between two values of e4m3 may round to either
        assert relative_error(found.cpu(), expected) < 0.01


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5), (2, 0, 5)])
def test_a_layer_takes_what_a_linear_layer_takes(shape: tuple[int, ...]) -> None:
    layer, x = linear(5, 7), draw(*shape)
    y = packed(layer)(x)
    assert y.shape == layer(x).shape
    torch.testing.assert_close(y, layer(x), rtol=0, atol=0.3)


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 3, 64), (0, 64), (2, 0, 64)])
def test_a_layer_takes_rows_that_are_rounded_already(shape: tuple[int, ...]) -> None:
    layer, x = packed(linear(64, 32)), draw(*shape).bfloat16()
    assert torch.equal(layer(quantize_rows(x)), layer(x))


@pytest.mark.parametrize("kernel", [*CPU_KERNELS, emulated])
@pytest.mark.parametrize("shape", [(16,), (1, 16), (2, 3, 16), (0, 16), (2, 0, 16)])
def test_every_kernel_takes_any_number_of_tokens(kernel: Kernel, shape: tuple[int, ...]) -> None:
    layer, x = linear(16, 32), draw(*shape)
    y = packed(layer, kernel)(x)
    assert y.shape == (*shape[:-1], 32)
    torch.testing.assert_close(y, packed(layer)(x), rtol=2**-7, atol=0.01)


@pytest.mark.parametrize(
    ("inputs", "outputs", "fits"),
    [(32, 48, True), (33, 48, False), (32, 47, False), (8, 8, False)],
)
def test_sizes_that_kernels_do_not_take_are_emulated(inputs: int, outputs: int, fits: bool) -> None:
    layer = packed(linear(inputs, outputs), missing)
    assert (layer.kernel is missing) == fits


def test_tokens_do_not_disturb_each_other() -> None:
    """One scale for all would drown the quiet ones beside a loud one."""
    layer, x = packed(linear(64, 32)), draw(10, 64)
    loud = x.clone()
    loud[0] *= 1e6
    torch.testing.assert_close(layer(loud)[1:], layer(x)[1:])


def test_a_layer_shows_no_tensor_as_its_weight() -> None:
    """transformers' umT5 casts activations to the dtype of `weight` where it finds one."""
    layer = packed(linear(64, 32))
    assert not isinstance(layer.weight, Tensor)
    assert set(layer.state_dict()) == {"weight_float8", "weight_scale", "bias"}


def test_only_the_named_layers_of_a_network_are_replaced() -> None:
    network = nn.Sequential(linear(32, 32), nn.GELU(), nn.Sequential(linear(32, 16)))
    x = draw(4, 32)
    expected = network(x)
    quantize_linears(network, ["2.0"])
    assert [type(m) for m in (network[0], network[2][0])] == [nn.Linear, Float8Linear]
    assert 0 < relative_error(network(x), expected) < 0.08  # 16 outputs only


def test_layers_without_memory_have_the_shapes_and_dtypes_of_those_with() -> None:
    real, meta = packed(linear(32, 48)), nn.Sequential(nn.Linear(32, 48, device="meta"))
    quantize_linears(meta, ["0"])
    for key, tensor in real.state_dict().items():
        other = meta[0].state_dict()[key]
        assert (other.shape, other.dtype, other.is_meta) == (tensor.shape, tensor.dtype, True)


def test_a_layer_compiles_as_one_graph() -> None:
    layer, x = packed(linear(64, 32)), draw(3, 10, 64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
