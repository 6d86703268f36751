"""The row kernels without a GPU: compiled for an L40S, and run by an interpreter.

Both need Triton, which a CPU build of torch doesn't bring: `pip install triton` (3.8 or later for
the interpreter).
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from infinitetalk.models import row_kernels

WIDTH, WIDENED = 5120, 13824  # of the released model
HALF = {"*bf16": ("x", "y", "total", "qkv", "scale_q", "scale_k", "q", "k")}
FULL = {"*fp32": ("gate", "scale", "shift", "out_scale", "cos", "sin")}
NUMBERS = {"i32": ("gate_step", "scale_step", "shift_step"), "fp32": ("eps",)}
TYPES = {
    name: kind for table in (HALF, FULL, NUMBERS) for kind, names in table.items() for name in names
}
SUM, ROUNDED = {"HAS_SUM": True, "HAS_GATE": True}, {"IS_ROUNDED": True}
KERNELS = {
    "norm": (row_kernels.add_norm_kernel, WIDTH, dict.fromkeys((*SUM, *ROUNDED), False)),
    "norm in 8 bits": (
        row_kernels.add_norm_kernel,
        WIDTH,
        {**dict.fromkeys(SUM, False), **ROUNDED},
    ),
    "norm of a gated sum": (row_kernels.add_norm_kernel, WIDTH, {**SUM, **ROUNDED}),
    "rotary": (row_kernels.rotary_kernel, WIDTH, {"PAIRS": 64}),
    "sum": (row_kernels.round_kernel, WIDTH, {"HAS_SUM": True, "HAS_GELU": False}),
    "GELU": (row_kernels.round_kernel, WIDENED, {"HAS_SUM": False, "HAS_GELU": True}),
}


def compiled(kernel: Any, width: int, constants: dict[str, Any]) -> Any:
    """A kernel as it is launched on an L40S."""
    constants = {"D": width, "PIECE": row_kernels.piece(width), **constants}
    out = "*bf16" if constants.get("IS_ROUNDED") is False else "*fp8e4nv"
    names = kernel.arg_names
    kinds = {**TYPES, "out": out, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds[name] for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*") or name.endswith("_step")
    }
    given = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, given, aligned)
    options = {"num_warps": row_kernels.warps(width)}
    return triton.compile(source, GPUTarget("cuda", 89, 32), options)


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_fits_the_registers_of_an_l40s(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with 80 at most there are six rows at once on each of its processors."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    ptx = tmp_path / "kernel.ptx"
    ptx.write_text(compiled(*KERNELS[name]).asm["ptx"])
    assembler = [triton.knobs.nvidia.ptxas.path, "-v", "-arch=sm_89", str(ptx)]
    told = subprocess.run(
        [*assembler, "-o", str(tmp_path / "kernel.cubin")], capture_output=True, text=True
    ).stderr
    assert re.findall(r"(\d+) bytes spill", told) == ["0", "0"]
    assert max(map(int, re.findall(r"Used (\d+) registers", told))) <= 80


@pytest.mark.parametrize(
    ("width", "pieces"), [(WIDTH, 5), (WIDENED, 27), (1024, 1), (4096, 4), (96, 3), (1536, 3)]
)
def test_a_row_is_a_whole_number_of_pieces(width: int, pieces: int) -> None:
    size = row_kernels.piece(width)
    assert size * pieces == width
    assert size & (size - 1) == 0


INTERPRETED = """
import torch
from infinitetalk.models import row_kernels
from infinitetalk.models.attention import rotary_grid
from infinitetalk.models.float8 import dequantize

torch.manual_seed(0)
b, n, d = 2, 6, 192
operators = torch.ops.infinitetalk
x, y = torch.randn(2, b, n, d).half()  # the interpreter knows no bfloat16
gate, scale, shift = torch.randn(b, 3, d).unsqueeze(2).unbind(1)
channels = torch.randn(d)
rotary = rotary_grid((1, 2, 3), 64, torch.device("cpu"))
cases = [
    ("add_norm", x, None, None, scale, shift, 1e-6, False),
    ("add_norm", x, y, gate, scale, shift, 1e-6, False),
    ("add_norm", x, y, None, channels, channels + 1, 1e-6, True),
    ("round_rows", x, None, True),
    ("round_rows", x, y, False),
    ("rotary_heads", torch.cat((x, y, x), -1), channels.half(), x[0, 0], 1e-6, *rotary),
]
for name, *arguments in cases:
    found, expected = (
        list(function(*arguments))
        for function in (getattr(row_kernels, name), getattr(operators, name))
    )
    if found[-1].dtype == torch.float32:
        limit = 0.08  # its rounding to e4m3 cuts digits off: twice the GPU's error
        torch.testing.assert_close(found[-1], expected[-1])
        found[-2:], expected[-2:] = [dequantize(*found[-2:])], [dequantize(*expected[-2:])]
    else:
        limit = 0.001
    for one, other in zip(found, expected, strict=True):
        error = float((one.float() - other.float()).norm() / other.float().norm())
        assert error < limit, (name, error)
"""


def test_interpreted_they_compute_what_the_operators_do() -> None:
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
        pytest.skip("the interpreter of this triton does not run with this numpy")
    imports = "import infinitetalk.models.fused_rows\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + INTERPRETED],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
