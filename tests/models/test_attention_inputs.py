import torch

from infinitetalk.models.attention import sdpa
from infinitetalk.models.attention_inputs import exact_rows, realistic_inputs

GRID, HEADS, D = (6, 8, 8), 4, 64


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return realistic_inputs(GRID, HEADS, D, torch.Generator().manual_seed(1))


def test_shapes_and_the_same_values_for_the_same_seed() -> None:
    q, k, v = inputs()
    assert q.shape == k.shape == v.shape == (1, 384, HEADS, D)
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip((q, k, v), inputs(), strict=True))


def test_some_heads_look_at_everything_and_some_at_little() -> None:
    q, k, _ = (x.float() for x in inputs())
    weights = (torch.einsum("bnhd,bmhd->bhnm", q, k) / D**0.5).softmax(-1)
    looked_at = (1 / weights.square().sum(-1)).mean((0, 2))  # as many tokens, in effect
    assert looked_at[0] > 2 * looked_at[-1]


def test_keys_have_a_bias_and_channels_are_unlike() -> None:
    _, k, v = (x.float() for x in inputs())
    bias = k.mean(1).norm() / k.norm(dim=-1).mean()
    assert bias > 0.3
    for x in (k, v):
        loudness = x.square().mean((0, 1)).sqrt()
        assert loudness.amax(-1).median() > 3 * loudness.median()


def test_exact_rows_are_attention() -> None:
    q, k, v = inputs()
    rows = torch.tensor([3, 200, 7])
    wanted = sdpa(q.double(), k.double(), v.double())[:, rows].float()
    assert torch.allclose(exact_rows(q, k, v, rows), wanted, atol=1e-4)
