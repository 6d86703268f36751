"""One linear layer of the 14B sizes in bfloat16, in our 8 bits and in torchao's: time and error.

python -m benchmarks.fp8_linears [--small]
"""

import argparse
import copy
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.results import record
from infinitetalk.models.float8 import (
    KERNELS,
    Float8Linear,
    Kernel,
    emulated,
    float8_kernel,
    quantize_rows,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = ((33600, 5120, 5120), (33600, 5120, 13824), (33600, 13824, 5120))  # tokens, in, out
SMALL = ((336, 64, 64), (336, 64, 144))
RUNS = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    shapes = SMALL if parser.parse_args().small else SHAPES
    with torch.inference_mode():
        rows = [row for shape in shapes for row in compare(*shape)]
    note = (
        f"Median of {RUNS}, milliseconds, quantisation of the activations included; error (norm) "
        f"against float32. The probe chose {float8_kernel(DEVICE).__name__}; each kernel's median "
        "without quantisation is in brackets."
    )
    header = ("tokens x in x out", "layer", "ms", "compiled: ms", "TFLOP/s, compiled", "error")
    record("fp8: one linear layer", header, rows, note)


def compare(tokens: int, inputs: int, outputs: int) -> Iterator[tuple[str, ...]]:
    """A row for every layer there is."""
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs, device=DEVICE, dtype=torch.bfloat16)
    x = torch.randn(tokens, inputs, device=DEVICE, dtype=torch.bfloat16)
    truth = nn.functional.linear(x.float(), linear.weight.float(), linear.bias.float())
    work = 2 * tokens * inputs * outputs
    for name, layer in layers(linear, x):
        try:
            error = float((layer(x).float() - truth).norm() / truth.norm())
            eager, compiled = (
                milliseconds(layer, x),
                milliseconds(torch.compile(layer, dynamic=False), x),
            )
        except Exception as problem:  # whatever a kernel or a compiler says
            print(f"{name}: {type(problem).__name__}: {str(problem)[:300]}")
            continue
        cells = (f"{eager:.2f}", f"{compiled:.2f}", f"{work / compiled / 1e9:.0f}")
        yield f"{tokens} x {inputs} x {outputs}", name, *cells, f"{100 * error:.2f} %"


def layers(linear: nn.Linear, x: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Each with its name."""
    yield "bfloat16", linear
    rows = quantize_rows(linear.weight)
    for kernel in (*KERNELS.get(DEVICE.type, ()), *((emulated,) if DEVICE.type == "cpu" else ())):
        alone = kernel_alone(kernel, linear, x)
        yield f"ours, {kernel.__name__}{alone}", Float8Linear(rows, linear.bias, kernel)
    if importlib.util.find_spec("torchao") is None:
        print("torchao is not installed: left out")
        return
    try:
        yield "torchao, PerRow", torchao_linear(linear)
    except Exception as problem:  # whatever it asserts of devices and versions
        print(f"torchao: {type(problem).__name__}: {str(problem)[:300]}")


def kernel_alone(kernel: Kernel, linear: nn.Linear, x: Tensor) -> str:
    """Time of the product of what is quantised already."""
    tokens, weight = quantize_rows(x), quantize_rows(linear.weight)
    try:
        spent = milliseconds(lambda _: kernel(tokens, weight, linear.bias, torch.bfloat16), x)
    except RuntimeError as problem:
        return f" ({str(problem)[:100]})"
    return f" ({spent:.2f})"


def torchao_linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        PerRow,
        quantize_,
    )

    network = nn.Sequential(copy.deepcopy(linear))
    quantize_(network, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    return network


def milliseconds(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Median time of a call after warm-ups."""
    for _ in range(3):
        function(x)
    return statistics.median(_milliseconds(function, x) for _ in range(RUNS))


def _milliseconds(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    _wait()
    started = time.perf_counter()
    function(x)
    _wait()
    return 1000 * (time.perf_counter() - started)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
