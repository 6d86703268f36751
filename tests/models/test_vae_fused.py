"""The kernels of the VAE without a GPU: run by Triton's interpreter, and compiled.

Both need Triton, which a CPU build of torch doesn't bring: `pip install triton` (3.8 or later for
the interpreter).
"""

import importlib.util
import os
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

from infinitetalk.models import vae_kernels

MIN_PSNR = 55.0  # dB: the tiny network in float16, whose few channels average no rounding away


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def interpreted(script: str) -> list[list[float]]:
    """What a script prints that runs under the interpreter, line by line."""
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
        pytest.skip("the interpreter of this triton does not run with this numpy")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [[float(value) for value in line.split()] for line in done.stdout.splitlines()]


KERNELS = """
import torch
from torch.nn.functional import normalize, silu
from infinitetalk.models import vae_fused

def error(found, exact):
    return float((found.float() - exact).abs().max() / exact.abs().max())

torch.manual_seed(0)
for b, c, t in (1, 96, 2), (2, 24, 1), (2, 24, 4):
    x, shortcut, before = (torch.randn(b, c, n, 3, 5).half() for n in (t, t, 2))
    bias, gamma = 100 * torch.randn(c).half(), torch.randn(c, 1, 1, 1).half()
    for given in (None, bias):
        y = x.float() + (0 if given is None else bias.float().view(-1, 1, 1, 1))
        y = silu(normalize(y, dim=1) * c**0.5 * gamma.float())
        clip = vae_fused.activated(x, given, gamma, before)
        stacked = vae_fused.stacked(x, given, gamma, before)
        beside = torch.cat((clip[:, :, :-2], clip[:, :, 1:-1], clip[:, :, 2:]), 1)
        print(error(clip, torch.cat((before.float(), y), 2)), error(stacked, beside.float()))
    total = x.float() + bias.float().view(-1, 1, 1, 1) + shortcut.float()
    print(error(vae_fused.add(x, bias, shortcut), total), 0)

x, bias, gamma = torch.full((1, 4, 1, 1, 2), 6e4), torch.full((4,), 6e4), torch.ones(4, 1, 1, 1)
x[..., 1] = float("nan")
x, bias, gamma = x.half(), bias.half(), gamma.half()
summed = vae_fused.add(x, bias, x)
normed = vae_fused.activated(x, bias, gamma, torch.zeros(1, 4, 2, 1, 2).half())[:, :, 2:]
print(float(summed[..., 0].amax()), float(normed[..., 0].amax()))
print(int(summed[..., 1].isnan().all()), int(normed[..., 1].isnan().all()))
"""


def test_the_kernels_are_what_they_say() -> None:
    *pairs, (summed, normed), are_nan = interpreted(KERNELS)
    assert len(pairs) == 9
    for error, stacked_otherwise in pairs:
        assert error < 1e-3  # float16 has 11 bits
        assert stacked_otherwise == 0
    # what is beyond float16 is cut, what is no number stays
    assert summed == 65504
    assert normed == pytest.approx(0.731, abs=1e-3)  # SiLU of 1
    assert are_nan == [1, 1]


WHOLE = """
import torch
from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights.synthetic import model_config

torch.manual_seed(0)
vae = VideoVAE(model_config("tiny").vae).eval().requires_grad_(False)
latent, clip = torch.randn(1, 16, 3, 4, 6), torch.rand(1, 3, 9, 32, 48) * 2 - 1
pixels, encoded = vae.decode(latent), vae.encode(clip)
vae.half().fuse()
print(float(10 * torch.log10(4 / (vae.decode(latent) - pixels).square().mean())))
print(float((vae.encode(clip) - encoded).norm() / encoded.norm()))
"""


@pytest.mark.slow
def test_interpreted_the_whole_vae_is_that_of_float32() -> None:
    [psnr], [error] = interpreted(WHOLE)
    assert psnr > MIN_PSNR
    assert error < 1e-3


@pytest.mark.parametrize("architecture", [89, 90], ids="sm_{}".format)
@pytest.mark.parametrize("channels", [96, 192, 384])
@pytest.mark.parametrize("kernel", ["activate", "add"])
def test_the_kernels_compile_and_move_16_bytes_at_once(
    kernel: str, channels: int, architecture: int
) -> None:
    block = triton.next_power_of_2(channels)
    constants = {"CHANNELS": channels, "BLOCK": block, "ROWS": max(1, 4096 // block)}
    names = {"activate": ("x", "bias", "gamma", "out"), "add": ("x", "bias", "shortcut", "out")}
    signature = dict.fromkeys(names[kernel], "*fp16") | {"rows": "i32"}
    if kernel == "activate":
        signature |= {"frame": "i32", "x_stride": "i32", "out_stride": "i32", "root": "fp32"}
        constants |= {"HAS_BIAS": True, "COPIES": 3 if channels < 128 else 1}
    ptx = compiled(getattr(vae_kernels, kernel), signature, constants, architecture).asm["ptx"]
    assert "ld.global.v4" in ptx
    assert "st.global.v4" in ptx


def compiled(
    kernel: Any, signature: dict[str, str], constants: dict[str, int], architecture: int
) -> Any:
    """A kernel for a GPU that is not here."""
    order = [*kernel.arg_names]
    typed = {name: signature.get(name, "constexpr") for name in order}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(order)
        if typed[name].startswith("*") or name.endswith("_stride")
    }
    values = {(order.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, typed, values, aligned)
    return triton.compile(source, GPUTarget("cuda", architecture, 32), {})
