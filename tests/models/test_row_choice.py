"""Fused row operations are used where they run and are right: here their CPU version."""

import logging
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from infinitetalk.models.attention import RotaryTable
from infinitetalk.models.block import Block
from infinitetalk.models.float8 import quantize_linears
from infinitetalk.models.fused_rows import FUSED
from infinitetalk.models.row_choice import CANDIDATES, best_row_ops
from infinitetalk.models.row_ops import PLAIN, Affine, Input, RowOps
from infinitetalk.models.transformer_config import TransformerConfig

CONFIG = TransformerConfig(dim=96, ffn_dim=160, heads=3, layers=1, audio_token_dim=16)
HERE: Mapping[str, RowOps] = {"cpu": FUSED}


def block(dtype: torch.dtype = torch.bfloat16, device: str = "cpu") -> Block:
    """With its linear layers in 8 bits."""
    module = Block(CONFIG).to(device, dtype).requires_grad_(False)
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    quantize_linears(module, names)
    return module


def missing(*_: object) -> Input:
    raise ImportError("no Triton")


def without_shift(x: Tensor, affine: Affine, reader: nn.Module) -> Input:
    return FUSED.norm(x, affine._replace(shift=torch.zeros_like(affine.shift)), reader)


def without_gate(
    x: Tensor, y: Tensor, _: Tensor | None, affine: Affine, reader: nn.Module
) -> tuple[Tensor, Input]:
    return FUSED.add_norm(x, y, None, affine, reader)


def swapped(
    qkv: Tensor, scale_q: Tensor, scale_k: Tensor, eps: float, rotary: RotaryTable
) -> tuple[Tensor, Tensor]:
    q, k = FUSED.rotary_heads(qkv, scale_q, scale_k, eps, rotary)
    return k, q


def not_a_number(x: Tensor, reader: nn.Module) -> Input:
    return FUSED.gelu(x * torch.nan, reader)


def first_alone(x: Tensor, _: Tensor | None, reader: nn.Module) -> Input:
    return FUSED.add(x, None, reader)


WRONG: Mapping[str, Callable[..., object]] = {
    "norm": without_shift,
    "add_norm": without_gate,
    "rotary_heads": swapped,
    "gelu": not_a_number,
    "add": first_alone,
}


def test_what_works_is_chosen() -> None:
    assert best_row_ops(block(), HERE) is FUSED


def test_in_float32_they_are_plain() -> None:
    assert best_row_ops(block(torch.float32), HERE) is PLAIN


def test_a_cpu_has_no_candidate() -> None:
    assert best_row_ops(block()) is PLAIN


@pytest.mark.parametrize("operation", WRONG)
def test_one_wrong_operation_is_enough_to_leave_them(
    operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    ops = FUSED._replace(**{operation: WRONG[operation]})  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert best_row_ops(block(), {"cpu": ops}) is PLAIN
    assert "are off by" in caplog.text


def test_without_what_they_need_they_are_left_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert best_row_ops(block(), {"cpu": FUSED._replace(gelu=missing)}) is PLAIN
    assert "no Triton" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_this_gpu_runs_the_fused_ones() -> None:
    assert best_row_ops(block(device="cuda")) is CANDIDATES["cuda"]
