"""The 8-bit attention without a GPU: compiled for those it is for, and run by an interpreter.

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

from infinitetalk.models import attention8, attention8_kernels
from infinitetalk.models.attention import EIGHT_BIT_HEADS

ADA_SHARED_MEMORY = 99 * 1024  # bytes that a block may have on an L40S
HOPPER_SHARED_MEMORY = 227 * 1024
SCALES = ("q_scale", "k_scale", "v_scale", "v_mean")
SIZES = ("n", "m", "q_padded", "k_padded", "stride_b", "stride_n", "stride_h", "heads")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(
    source: type, function: Any, tensors: dict[str, str], sizes: dict[str, int], **options: int
) -> Any:
    """A kernel for a GPU that is not here; `sm` is its architecture."""
    target = GPUTarget("cuda", options.pop("sm"), 32)
    signature = {**tensors, **dict.fromkeys(SCALES, "*fp32"), "out": "*bf16"}
    signature |= dict.fromkeys(SIZES, "i32") | dict.fromkeys(sizes, "constexpr")
    names = list(signature)
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*") or name in SIZES[:-1]
    }
    constants = {(names.index(name),): value for name, value in sizes.items()}
    return triton.compile(source(function, signature, constants, aligned), target, options)


def spilled_bytes(kernel: Any, architecture: str, folder: Path) -> int:
    """Of registers that did not fit, by the assembler's own account."""
    ptx = folder / "kernel.ptx"
    ptx.write_text(kernel.asm["ptx"])
    assembler = [triton.knobs.nvidia.ptxas.path, "-v", f"-arch={architecture}"]
    told = subprocess.run(
        [*assembler, str(ptx), "-o", str(folder / "kernel.cubin")], capture_output=True, text=True
    )
    stores, loads = re.findall(r"(\d+) bytes spill (?:stores|loads)", told.stderr)
    return int(stores) + int(loads)


@pytest.mark.parametrize("head_dim", EIGHT_BIT_HEADS)
def test_the_kernel_for_any_gpu_fits_an_l40s(head_dim: int, tmp_path: Path) -> None:
    kernel = compiled(
        ASTSource,
        attention8_kernels.attend,
        {"q": "*i8", "k": "*i8", "v": "*fp8e4nv"},
        {"D": head_dim, "QUERIES": attention8.QUERIES, "KEYS": attention8.KEYS},
        sm=89,
        num_warps=attention8.WARPS,
        num_stages=attention8.STAGES,
    )
    assert kernel.metadata.shared <= ADA_SHARED_MEMORY
    assert spilled_bytes(kernel, "sm_89", tmp_path) == 0


@pytest.mark.parametrize("is_key", [False, True])
def test_rounding_fits_an_l40s(is_key: bool, tmp_path: Path) -> None:
    tensors = {"x": "*bf16", "mean": "*fp32", "values": "*i8", "scales": "*fp32"}
    names = ("n", "padded", "stride_b", "stride_n", "stride_h", "heads")
    sizes = {"ROWS": attention8.KEYS, "BLOCKS": 8, "D": 128, "IS_KEY": is_key}
    signature = {**tensors, **dict.fromkeys(names, "i32"), "factor": "fp32"}
    signature |= dict.fromkeys(sizes, "constexpr")
    order = list(signature)
    constants = {(order.index(name),): value for name, value in sizes.items()}
    source = ASTSource(attention8_kernels.round_rotated, signature, constants, {})
    options = {"num_warps": attention8.KEYS // 16, "num_stages": 2}
    kernel = triton.compile(source, GPUTarget("cuda", 89, 32), options)
    assert kernel.metadata.shared <= ADA_SHARED_MEMORY
    assert spilled_bytes(kernel, "sm_89", tmp_path) == 0


def test_it_multiplies_in_8_bits_there_and_moves_no_weight_between_threads() -> None:
    kernel = compiled(
        ASTSource,
        attention8_kernels.attend,
        {"q": "*i8", "k": "*i8", "v": "*fp8e4nv"},
        {"D": 128, "QUERIES": attention8.QUERIES, "KEYS": attention8.KEYS},
        sm=89,
        num_warps=attention8.WARPS,
        num_stages=attention8.STAGES,
    )
    ptx = kernel.asm["ptx"]
    assert "s32.s8.s8.s32" in ptx
    assert "f32.e4m3.e4m3.f32" in ptx
    assert ptx.count("shfl.sync") <= 16  # the largest score and the sum of a row, nothing else


def test_the_kernel_for_hopper_fits_it(tmp_path: Path) -> None:
    gluon = pytest.importorskip("triton.experimental.gluon.language")
    runtime = pytest.importorskip("triton.experimental.gluon._runtime")
    from infinitetalk.models import attention8_hopper as hopper

    layout = repr(gluon.NVMMASharedLayout(128, 8, 2))
    kernel = compiled(
        runtime.GluonASTSource,
        hopper.attend,
        {
            "q": f"tensordesc<i8[{hopper.QUERIES}, 128],{layout}>",
            "k": f"tensordesc<i8[{hopper.KEYS}, 128],{layout}>",
            "v": f"tensordesc<fp8e4nv[128, {hopper.KEYS}],{layout}>",
        },
        {
            "D": 128,
            "KEYS": hopper.KEYS,
            "BUFFERS": hopper.BUFFERS,
            "REGISTERS": hopper.REGISTERS,
        },
        sm=90,
        num_warps=4,
    )
    assert kernel.metadata.shared <= HOPPER_SHARED_MEMORY
    assert spilled_bytes(kernel, "sm_90a", tmp_path) == 0
    assert "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8" in kernel.asm["ptx"]


INTERPRETED = """
import contextlib, sys, torch
from infinitetalk.models import attention8
from infinitetalk.models.attention_inputs import exact_rows, realistic_inputs

grid, batch, head_dim = eval(sys.argv[1])
generator = torch.Generator().manual_seed(0)
made = [realistic_inputs(grid, 2, head_dim, generator) for _ in range(batch)]
q, k, v = (torch.cat(part) for part in zip(*made))
q = q[:, : q.shape[1] - 3]
rows = torch.arange(q.shape[1])
parts = zip(*(x.split(1) for x in (q, k, v)))
truth = torch.cat([exact_rows(*part, rows) for part in parts])
q, k, v = (x.half() for x in (q, k, v))  # the interpreter multiplies bfloat16 wrongly
q, k, v = (torch.cat([x, x], -1)[..., :head_dim] for x in (q, k, v))  # rows with gaps
out = attention8.attend_anywhere(q, k, v)
assert out.shape == q.shape and out.dtype == q.dtype and out.is_contiguous()
print(float((out.float() - truth).norm() / truth.norm()))
"""


@pytest.mark.parametrize(
    "case",
    ["((3, 6, 8), 1, 128)", "((2, 5, 7), 2, 64)"],
    ids=["more than one block", "a batch, fewer than a block"],
)
def test_interpreted_it_is_attention(case: str) -> None:
    """Within the interpreter's rounding to e4m3, which cuts digits off: twice the GPU's error."""
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
        pytest.skip("the interpreter of this triton does not run with this numpy")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, case],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.05
