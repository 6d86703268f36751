from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinitetalk.config import Settings
from infinitetalk.deployed_attention import deployed_attention, token_grid
from infinitetalk.errors import AttentionUnavailable
from infinitetalk.models.transformer_config import TransformerConfig

CONFIG = TransformerConfig()


@pytest.mark.parametrize(
    ("setting", "device", "dtype", "expected"),
    [
        ("cudnn", "cuda", torch.bfloat16, "cudnn"),
        ("auto", "cpu", torch.bfloat16, "auto"),
        ("auto", "cuda", torch.float32, "auto"),
    ],
    ids=["named", "no GPU", "float32"],
)
def test_without_a_choice_nothing_is_measured(
    setting: str, device: str, dtype: torch.dtype, expected: str, tmp_path: Path
) -> None:
    settings = replace(Settings(home=tmp_path), attention=setting)
    chosen = deployed_attention("standard", CONFIG, settings, torch.device(device), dtype)
    assert chosen == expected
    assert not list(tmp_path.iterdir())


def test_8_bits_need_heads_that_the_kernels_take(tmp_path: Path) -> None:
    settings = replace(Settings(home=tmp_path), attention="eight_bit")
    gpu, small = torch.device("cuda"), TransformerConfig(dim=128, heads=4)
    assert deployed_attention("standard", CONFIG, settings, gpu, torch.bfloat16) == "eight_bit"
    with pytest.raises(AttentionUnavailable, match="64 or 128; those of demo are 32"):
        deployed_attention("demo", small, settings, gpu, torch.bfloat16)


def test_the_measured_size_is_that_of_a_window() -> None:
    assert token_grid("standard", CONFIG) == (21, 40, 40)
