"""How often a block is compiled, with a compiler that leaves the graph as it is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from infinitetalk.models.attention import Attention, sdpa
from infinitetalk.models.compiled import as_operator
from infinitetalk.models.float8 import Float8Linear, quantize_linears
from infinitetalk.models.fused_rows import FUSED
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.weights.convert import build

CONFIG = TransformerConfig(
    dim=32,
    ffn_dim=48,
    heads=2,
    layers=3,
    freq_dim=8,
    text_dim=6,
    text_tokens=5,
    image_dim=10,
    audio_layers=2,
    audio_dim=3,
    audio_hidden=4,
    audio_token_dim=16,
    audio_tokens=3,
)
SIZE = (3, 4, 6)  # t h w of a latent
IMAGE_TOKENS = 4


class Compiler:
    """Takes a graph as it is, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What one test compiles is not there in the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def network() -> InfiniteTalkTransformer:
    torch.manual_seed(0)
    module = build("transformer", CONFIG)
    assert isinstance(module, InfiniteTalkTransformer)
    return module


def predict(
    network: InfiniteTalkTransformer,
    size: tuple[int, int, int] = SIZE,
    voices: int = 1,
    seed: int = 0,
    attention: Attention = sdpa,
) -> Tensor:
    """One forward; every seed another window, step and branch."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        regions = torch.eye(3).repeat(1, size[1] * size[2] // 4 // 3)
        conditioning = Conditioning(
            draw(1, 20, *size),
            network.rotary(size),
            network.text_keys(draw(1, 4, 6)),
            network.image_keys(draw(1, IMAGE_TOKENS, 10)),
            network.audio_keys(draw(1, voices, 9, 5, 2, 3)),
            regions if voices == 2 else None,
        )
        return network(draw(1, 16, *size), torch.tensor([500.0 - seed]), conditioning, attention)


def is_close(found: Tensor, expected: Tensor) -> bool:
    """Up to rounding: compiled, GELU is written differently."""
    return torch.allclose(found, expected, rtol=0, atol=1e-5)


SIZES = [SIZE, (3, 6, 6), (3, 6, 4), (3, 12, 10)]


def test_one_graph_serves_all_blocks_steps_windows_and_sizes(
    network: InfiniteTalkTransformer, compiler: Compiler
) -> None:
    expected = [predict(network, size, seed=i) for i, size in enumerate(SIZES)]
    network.compile_blocks(compiler)
    found = [predict(network, size, seed=i) for i, size in enumerate(SIZES)]
    assert compiler.graphs == 1
    assert all(map(is_close, expected, found))


def test_two_voices_are_one_graph_more_and_their_silent_branch_none(
    network: InfiniteTalkTransformer, compiler: Compiler
) -> None:
    expected = [predict(network, size, voices=2) for size in SIZES]
    network.compile_blocks(compiler)
    found = [predict(network, size, voices=2) for size in SIZES]
    assert compiler.graphs == 1
    predict(network)
    predict(network, voices=2)
    assert compiler.graphs == 2
    assert all(map(is_close, expected, found))


@pytest.mark.parametrize("voices", [1, 2])
def test_after_the_warm_up_nothing_is_compiled(
    network: InfiniteTalkTransformer, compiler: Compiler, voices: int
) -> None:
    network.compile_blocks(compiler)
    with torch.inference_mode():
        network.warm_up(SIZE, IMAGE_TOKENS, voices, sdpa)
    assert compiler.graphs == 1
    predict(network, voices=voices)
    predict(network, (3, 8, 6), voices=voices)
    assert compiler.graphs == 1


def test_layers_in_8_bits_are_part_of_the_graph(
    network: InfiniteTalkTransformer, compiler: Compiler
) -> None:
    names = [f"blocks.{i}.{layer}" for i in range(3) for layer in ("self_attn.qkv", "ffn.0")]
    quantize_linears(network, names)
    assert isinstance(network.get_submodule(names[0]), Float8Linear)
    expected = predict(network)
    network.compile_blocks(compiler)
    off = predict(network) - expected  # a rounding here and there falls the other way
    assert off.norm() < 0.01 * expected.norm()
    assert compiler.graphs == 1


def test_fused_rows_are_part_of_the_graph(
    network: InfiniteTalkTransformer, compiler: Compiler
) -> None:
    network = network.bfloat16()
    quantize_linears(network, [f"blocks.{i}.ffn.2" for i in range(3)])
    expected = [predict(network, size, voices=2) for size in SIZES[:2]]
    network.compile_blocks(compiler, FUSED)
    found = [predict(network, size, voices=2) for size in SIZES[:2]]
    assert compiler.graphs == 1
    off = [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]
    assert 0 < max(off) < 0.01  # a rounding here and there falls the other way


def test_a_backend_the_compiler_cannot_read_is_an_operator(
    network: InfiniteTalkTransformer, compiler: Compiler
) -> None:
    """Whatever a package does when it is called stays out of the graph."""
    expected = predict(network)
    network.compile_blocks(compiler)
    found = predict(network, attention=as_operator("sdpa"))
    assert compiler.graphs == 1
    assert is_close(found, expected)


def test_the_operator_is_what_its_description_says() -> None:
    q, k, v = torch.randn(3, 1, 6, 2, 8).unbind()
    torch.library.opcheck(torch.ops.infinitetalk.attention, (q, k, v, "sdpa"))
    strided = torch.randn(1, 6, 2, 24).chunk(3, -1)
    torch.library.opcheck(torch.ops.infinitetalk.attention, (*strided, "sdpa"))


def test_a_network_goes_back_to_eager(network: InfiniteTalkTransformer) -> None:
    def refuse(*_: object) -> Callable[..., Any]:
        raise RuntimeError("no compiler")

    expected = predict(network)
    network.compile_blocks(refuse)
    with pytest.raises(RuntimeError, match="no compiler"):
        predict(network)
    network.run_eagerly()
    assert torch.equal(predict(network), expected)


def test_tokens_are_rows_in_memory(network: InfiniteTalkTransformer) -> None:
    """Blocks keep the layout they are given; the patch embedding's own would be channels first."""
    replaced = replace(CONFIG, layers=1)
    module = build("transformer", replaced)
    with torch.inference_mode():
        tokens = module.embed(torch.randn(1, 16, *SIZE), torch.randn(1, 20, *SIZE))
    assert tokens.is_contiguous()
