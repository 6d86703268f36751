import importlib.util

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from infinitetalk.errors import AttentionUnavailable
from infinitetalk.models.attention import (
    BACKENDS,
    attention_backend,
    eight_bit,
    rotary_grid,
    rotary_table,
    rotate,
    sdpa,
    unavailable_reason,
)

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(4)
Q, K, V = torch.randn(3, 2, 7, 3, 8, generator=GENERATOR)  # b n h d


def switches() -> dict[str, bool]:
    """Every process-wide preference that picks an attention kernel."""
    cuda = torch.backends.cuda
    return {
        "flash": cuda.flash_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }


def test_sdpa_is_softmax_of_scaled_products_over_the_values() -> None:
    scores = torch.einsum("bnhd,bmhd->bhnm", Q, K) / 8**0.5
    wanted = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), V)
    assert torch.allclose(sdpa(Q, K, V), wanted, atol=1e-6)


def test_auto_is_the_backend_that_every_device_has() -> None:
    assert attention_backend("auto", CPU) is attention_backend("sdpa", CPU) is sdpa


@pytest.mark.parametrize("name", ["cudnn", "flash", "sage"])
def test_a_backend_that_cannot_run_here_says_why(name: str) -> None:
    with pytest.raises(AttentionUnavailable, match=rf"{name} cannot run here: .*CUDA device"):
        attention_backend(name, CPU)


@pytest.mark.parametrize(("name", "package"), [("flash", "flash_attn"), ("sage", "sageattention")])
def test_a_package_is_named_when_and_only_when_it_is_missing(name: str, package: str) -> None:
    is_missing = importlib.util.find_spec(package) is None
    reason = unavailable_reason(name, torch.device("cuda"))
    assert reason == (f"the package {package} is not installed" if is_missing else None)


def test_choosing_and_running_a_backend_touches_no_global_switch() -> None:
    before = switches()
    for name in BACKENDS:
        if unavailable_reason(name, CPU) is None:
            attention_backend(name, CPU)(Q, K, V)
    assert switches() == before


def test_a_compiler_knows_the_shape_of_the_8_bit_result_and_nothing_else() -> None:
    with FakeTensorMode():
        q, kv = torch.empty(1, 7, 2, 64), torch.empty(1, 9, 2, 64)
        result = eight_bit(q, kv, kv)
    assert result.shape == q.shape
    assert result.is_contiguous()


def scores(q: Tensor, k: Tensor, q_at: float, k_at: float) -> Tensor:
    """Products of one query and one key at positions on one axis."""
    turned_q = rotate(q, rotary_table(torch.full((q.shape[1],), q_at), q.shape[-1] // 2))
    turned_k = rotate(k, rotary_table(torch.full((k.shape[1],), k_at), k.shape[-1] // 2))
    return (turned_q * turned_k).sum(-1)


@pytest.mark.parametrize("shift", [1.0, 0.25, 17.5])
def test_rotated_products_depend_on_the_distance_alone_whole_or_not(shift: float) -> None:
    here, there = scores(Q, K, 3.25, 22.0), scores(Q, K, 3.25 + shift, 22.0 + shift)
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, scores(Q, K, 3.25 + shift, 22.0), atol=1e-2)


def test_a_position_between_two_integers_is_not_rounded() -> None:
    cos, _ = rotary_table(torch.tensor([0.0, 0.5, 1.0]), 1)
    assert torch.allclose(cos[:, 0], torch.tensor([0.0, 0.5, 1.0]).cos())


def test_rotation_keeps_length_and_position_zero_is_the_identity() -> None:
    table = rotary_table(torch.arange(7), 4)
    turned = rotate(Q, table)
    assert torch.allclose(turned.norm(dim=-1), Q.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, 0], Q[:, 0])


def test_pairs_are_interleaved() -> None:
    """(x0, x1) is one complex number, (x2, x3) the next."""
    table = rotary_table(torch.arange(7), 4)
    numbers = torch.view_as_complex(Q.unflatten(-1, (4, 2)).contiguous())
    wanted = torch.view_as_real(numbers * torch.complex(*table)[:, None]).flatten(-2)
    assert torch.allclose(rotate(Q, table), wanted, atol=1e-6)


def test_each_batch_entry_can_have_positions_of_its_own() -> None:
    positions = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6], [20.0, 12, 12, 3.5, 0, 22, 24]])
    together = rotate(Q, rotary_table(positions, 4))
    for row in range(2):
        alone = rotate(Q[row : row + 1], rotary_table(positions[row], 4))
        assert torch.equal(together[row : row + 1], alone)


def test_half_precision_is_rotated_in_float32_and_given_back() -> None:
    table = rotary_table(torch.arange(7), 4)
    half = rotate(Q.bfloat16(), table)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, rotate(Q.bfloat16().float(), table).bfloat16())


@pytest.mark.parametrize(
    ("head_dim", "split"), [(128, (22, 21, 21)), (32, (6, 5, 5)), (64, (12, 10, 10))]
)
def test_the_grid_splits_the_pairs_over_time_rows_and_columns(
    head_dim: int, split: tuple[int, int, int]
) -> None:
    grid = (2, 3, 4)
    cos, sin = rotary_grid(grid, head_dim, CPU)
    assert cos.shape == sin.shape == (24, head_dim // 2)
    for axis, part in enumerate(cos.split(split, dim=1)):
        positions = torch.arange(grid[axis]).float()
        per_axis = [1, 1, 1, split[axis]]
        per_axis[axis] = grid[axis]
        wanted = rotary_table(positions, split[axis])[0].reshape(per_axis)
        assert torch.equal(part.view(*grid, -1), wanted.expand(*grid, -1))


def test_a_backend_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttentionUnavailable, match="sdpa, cudnn, flash, sage"):
        attention_backend("magic", torch.device("cpu"))
