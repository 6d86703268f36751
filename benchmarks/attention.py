"""Self-attention of the 14B sizes with every backend: time, and error against float32.

python -m benchmarks.attention [--small]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.results import record
from infinitetalk.models.attention import BACKENDS, Attention, unavailable_reason
from infinitetalk.models.attention_choice import cuda_clock
from infinitetalk.models.attention_inputs import exact_rows, realistic_inputs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GRIDS = {"480p": (21, 40, 40), "720p": (21, 60, 60)}  # tokens of 81 frames
SMALL = {"small": (3, 8, 8)}
HEADS, HEAD_DIM = 40, 128
RUNS = 5
ROWS = 128  # queries that are compared

Inputs = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few tokens, for a CPU")
    grids = SMALL if parser.parse_args().small else GRIDS
    with torch.inference_mode():
        rows = [row for name, grid in grids.items() for row in compare(name, grid)]
    note = (
        f"b = 1, {HEADS} heads of {HEAD_DIM}, bfloat16; median of {RUNS} after a warm-up, the "
        "rounding to 8 bits included. Error (norm) of "
        f"{ROWS} queries against float32, in brackets the best and the worst head: on inputs with "
        "the structure of a trained model's (`attention_inputs.py`), and on white noise, whose "
        "average is next to nothing."
    )
    header = ("tokens", "backend", "ms", "TFLOP/s", "error", "white noise")
    record("Self-attention", header, rows, note)


def compare(name: str, grid: tuple[int, int, int]) -> Iterator[tuple[str, ...]]:
    """A row for every backend there is."""
    tokens = math.prod(grid)
    generator = torch.Generator(DEVICE).manual_seed(0)
    inputs = realistic_inputs(grid, HEADS, HEAD_DIM, generator)
    rows = torch.randint(tokens, (ROWS,), generator=generator, device=DEVICE)
    truth = exact_rows(*inputs, rows)
    white = white_noise(tokens, generator)
    white_truth = exact_rows(*white, rows)
    work = 4 * tokens**2 * HEADS * HEAD_DIM
    for backend, function in backends():
        try:
            error = difference(function(*inputs)[:, rows], truth)
            white_error = difference(function(*white)[:, rows], white_truth)
            spent = milliseconds(function, inputs)
        except Exception as problem:  # whatever a kernel says
            print(f"{name}, {backend}: {type(problem).__name__}: {str(problem)[:300]}")
            continue
        row = (f"{name}: {tokens}", backend, f"{spent:.2f}", f"{work / spent / 1e9:.0f}")
        print(*row, error, white_error, flush=True)
        yield *row, error, white_error


def backends() -> Iterator[tuple[str, Attention]]:
    """Those of the engine, and kernels that they may or may not pick here."""
    for name, function in BACKENDS.items():
        reason = unavailable_reason(name, DEVICE)
        if reason is None:
            yield name, function
        else:
            print(f"{name}: {reason}")
    if unavailable_reason("eight_bit", DEVICE) is None:
        from infinitetalk.models.attention8 import attend_anywhere

        yield "eight_bit, kernel for any GPU", attend_anywhere
    if DEVICE.type == "cuda":
        yield "torch's flash", forced(SDPBackend.FLASH_ATTENTION)
        yield "torch's efficient", forced(SDPBackend.EFFICIENT_ATTENTION)


def forced(kernel: SDPBackend) -> Attention:
    """SDPA by this kernel or not at all."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(kernel):
            out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2)

    return attention


def white_noise(tokens: int, generator: torch.Generator) -> Inputs:
    shape = (3, 1, tokens, HEADS, HEAD_DIM)
    q, k, v = torch.randn(shape, generator=generator, device=DEVICE, dtype=torch.bfloat16)
    return q, k, v


def difference(result: Tensor, truth: Tensor) -> str:
    """Relative error of all heads, of the best and of the worst."""
    by_head = [x.transpose(1, 2)[0].flatten(1) for x in (result.float() - truth, truth)]
    heads = by_head[0].norm(dim=1) / by_head[1].norm(dim=1)
    whole = by_head[0].norm() / by_head[1].norm()
    return f"{100 * whole:.2f} % ({100 * heads.min():.2f}-{100 * heads.max():.2f})"


def milliseconds(function: Attention, inputs: Inputs) -> float:
    """Median time of a call."""
    clock = cuda_clock if DEVICE.type == "cuda" else wall_clock
    function(*inputs)
    return statistics.median(clock(lambda: function(*inputs)) for _ in range(RUNS))


def wall_clock(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
