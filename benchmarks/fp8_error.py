"""What 8 bits cost in accuracy, for every kind of layer: the choice of high-precision layers.

Each kind is quantised alone, and all but it, in an otherwise float32 network: the golden DiT and a
stack of blocks of the 14B sizes with random weights, without and with channels 20 times larger than
the others, as trained transformers have them. Then the text encoder, likewise.

python -m benchmarks.fp8_error [--small]
"""

import argparse
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from benchmarks.results import record
from infinitetalk.models.attention import sdpa
from infinitetalk.models.float8 import (
    Float8Linear,
    dequantize,
    emulated,
    float8_kernel,
    quantize_rows,
)
from infinitetalk.models.text_encoder import TextEncoderConfig
from infinitetalk.models.transformer import Conditioning
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.parity.case import Case
from infinitetalk.parity.networks import make, transformer_config
from infinitetalk.weights.convert import COMPONENTS, build

GOLDEN = Path("tests/data/case_dit_single")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KERNEL = float8_kernel(DEVICE)

BLOCKS: Mapping[str, str] = {
    "self-attention q, k, v": r"blocks\.\d+\.self_attn\.qkv",
    "self-attention o": r"blocks\.\d+\.self_attn\.o",
    "text and image attention q": r"blocks\.\d+\.cross_attn\.q",
    "text attention k, v": r"blocks\.\d+\.cross_attn\.[kv]",
    "image attention k, v": r"blocks\.\d+\.cross_attn\.[kv]_img",
    "text and image attention o": r"blocks\.\d+\.cross_attn\.o",
    "audio attention q": r"blocks\.\d+\.audio_cross_attn\.q_linear",
    "audio attention k, v": r"blocks\.\d+\.audio_cross_attn\.kv_linear",
    "audio attention proj": r"blocks\.\d+\.audio_cross_attn\.proj",
    "feed-forward, first": r"blocks\.\d+\.ffn\.0",
    "feed-forward, second": r"blocks\.\d+\.ffn\.2",
}
REST: Mapping[str, str] = {
    "patch embedding": "patch_embedding",
    "text embedding": r"text_embedding\.[02]",
    "image embedding": r"img_emb\.proj\.[13]",
    "audio projection": r"audio_proj\.proj\w+",
    "time embedding (weights alone)": r"time_embedding\.[02]|time_projection\.1",
    "head (weights alone)": r"head\.head",
}
WEIGHTS_ALONE = re.compile(r"time_.*|head\.head")  # multiplied in float32, outside their modules
TEXT: Mapping[str, str] = {
    "attention q, k": r".*SelfAttention\.[qk]",
    "attention v, o": r".*SelfAttention\.[vo]",
    "feed-forward, first": r".*DenseReluDense\.wi_[01]",
    "feed-forward, second": r".*DenseReluDense\.wo",
}


@dataclass(frozen=True)
class Subject:
    """A network in float32, and what is asked of it."""

    name: str
    network: nn.Module
    run: Callable[[Any], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    small = parser.parse_args().small
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        compare_transformers(small)
        compare_text_encoders(small)


def compare_transformers(small: bool) -> None:
    """Record the tables of the transformer."""
    names: list[str] = []
    tables: list[dict[str, tuple[str, ...]]] = []
    for make_subject in (golden, lambda: stack(small, 1.0), lambda: stack(small, 20.0)):
        subject = make_subject()
        names.append(subject.name)
        tables.append(errors(subject, BLOCKS, REST))
        del subject
    saved = gigabytes_saved("transformer", {**BLOCKS, **REST})
    columns = [f"{name}: {what}" for name in names for what in ("alone", "rest")]
    rows = [
        (kind, saved.get(kind, ""), *(cell for table in tables for cell in table[kind]))
        for kind in tables[0]
    ]
    note = (
        "Relative error (norm) of the velocity against float32; 'alone': this kind in fp8; 'rest': "
        "the blocks' kinds without it, or for a layer outside the blocks together with it. GB "
        f"saved: of the 14B model's bfloat16 weights. Kernel: {KERNEL.__name__}."
    )
    record("fp8: error by kind of layer", ("in fp8", "GB saved", *columns), rows, note)


def compare_text_encoders(small: bool) -> None:
    """Record the table of the text encoder."""
    subject = text_stack(small)
    table = errors(subject, TEXT, {})
    saved = gigabytes_saved("text_encoder", TEXT)
    rows = [(kind, saved.get(kind, ""), *cells) for kind, cells in table.items()]
    note = f"Relative error (norm) of the embedding of 40 tokens; {subject.name}, random weights."
    header = ("in fp8", "GB saved", "alone", "all but it")
    record("fp8: error of the text encoder", header, rows, note)


def errors(
    subject: Subject, inside: Mapping[str, str], outside: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Error of each kind alone, and of the others of `inside` (with it where it is outside)."""
    truth = subject.run(subject.network)

    def error(*patterns: str) -> str:
        with quantised(subject.network, "|".join(patterns)):
            return percent(subject.run(subject.network), truth)

    table = {
        kind: (error(pattern), error(*(p for other, p in inside.items() if other != kind)))
        for kind, pattern in inside.items()
    }
    table |= {kind: (error(p), error(p, *inside.values())) for kind, p in outside.items()}
    table["all of the blocks"] = (error(*inside.values()), "")
    half = copy.deepcopy(subject.network).to(torch.bfloat16)
    table["nothing, all in bfloat16"] = (percent(subject.run(half), truth), "")
    with quantised(half, "|".join(inside.values())):
        table["all of the blocks, the rest in bfloat16"] = (percent(subject.run(half), truth), "")
    return table


def percent(value: Tensor, truth: Tensor) -> str:
    return f"{100 * float((value.float() - truth).norm() / truth.norm()):.2f} %"


@contextmanager
def quantised(network: nn.Module, pattern: str) -> Iterator[None]:
    """While open, the layers whose names match compute in 8 bits."""
    chosen = {n: m for n, m in network.named_modules() if re.fullmatch(pattern, n)}
    assert chosen, pattern
    for name, layer in chosen.items():
        network.set_submodule(name, in_8_bits(name, layer))
    yield
    for name, layer in chosen.items():
        network.set_submodule(name, layer)


def in_8_bits(name: str, layer: nn.Module) -> nn.Module:
    """The layer in 8 bits, or with weights that have been."""
    if isinstance(layer, nn.Conv3d):
        return PatchEmbedding(layer)
    assert isinstance(layer, nn.Linear)
    rows = quantize_rows(layer.weight)
    if not WEIGHTS_ALONE.fullmatch(name):
        # Kernels take the sizes of the blocks; what is outside is never run in 8 bits.
        kernel = KERNEL if name.startswith(("blocks", "net")) else emulated
        return Float8Linear(rows, layer.bias, kernel)
    rounded = copy.copy(layer)
    rounded._parameters = dict(layer._parameters)
    rounded.weight = nn.Parameter(dequantize(*rows).to(layer.weight.dtype), requires_grad=False)
    return rounded


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its kernel, as a linear layer over patches in 8 bits."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.weight = layer.weight  # whose dtype is the network's
        self.patch = layer.kernel_size
        self.linear = Float8Linear(quantize_rows(layer.weight.flatten(1)), layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        s, p, q = self.patch
        x = rearrange(x, "b c (t s) (h p) (w q) -> b t h w (c s p q)", s=s, p=p, q=q)
        return self.linear(x).movedim(-1, 1)


def gigabytes_saved(component: str, kinds: Mapping[str, str]) -> dict[str, str]:
    """A byte for every weight of the released sizes."""
    network = build(component, COMPONENTS[component].config(), "meta")
    sizes = {name: m.weight.numel() for name, m in network.named_modules() if has_matrix(m)}
    return {
        kind: f"{sum(size for name, size in sizes.items() if re.fullmatch(p, name)) / 1e9:.3f}"
        for kind, p in kinds.items()
    }


def has_matrix(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv3d)


def golden() -> Subject:
    """The golden DiT of 2 blocks."""
    case = Case(GOLDEN, DEVICE)
    inputs = {key: tensor.to(DEVICE) for key, tensor in case.inputs.items()}
    config = transformer_config(case.info["config"], inputs["audio"])
    network = make("transformer", config, case.weights, case, torch.float32)

    def run(network: Any) -> Tensor:
        latent = inputs["latent"][None]
        conditioning = Conditioning(
            inputs["y"],
            network.rotary(latent.shape[2:]),
            network.text_keys(inputs["context"][None]),
            network.image_keys(inputs["clip_fea"]),
            network.audio_keys(inputs["audio"][None]),
        )
        return network(latent, inputs["timesteps"][0][None], conditioning, sdpa)

    return Subject("golden", network, run)


SMALL = TransformerConfig(dim=128, ffn_dim=256, heads=2, layers=2)


def stack(small: bool, outlier: float) -> Subject:
    """Blocks of the 14B model with gates of 1, so that what one gets wrong is not scaled away.

    Args:
        outlier: how much larger one channel in 200 is where activations are quantised.
    """
    config = SMALL if small else TransformerConfig(layers=6)
    t, h, w = (5, 8, 8) if small else (21, 40, 40)
    torch.manual_seed(0)
    network = build("transformer", config, str(DEVICE))
    for block in network.blocks:
        block.modulation[:, (2, 5)] += 1  # gates
        block.modulation[:, (1, 4), ::200] += outlier - 1  # scales
        block.norm3.weight[::200] = block.norm_x.weight[::200] = outlier
    with torch.device(DEVICE):
        frames = 4 * (t - 1) + 1
        latent, condition = torch.randn(1, 16, t, h, w), torch.randn(1, 20, t, h, w)
        text = torch.randn(1, 40, config.text_dim)
        image = torch.randn(1, 257, config.image_dim)
        audio = torch.randn(1, 1, frames, config.audio_window, 12, 768)

    def run(network: Any) -> Tensor:
        conditioning = Conditioning(
            condition,
            network.rotary((t, h, w)),
            network.text_keys(text),
            network.image_keys(image),
            network.audio_keys(audio),
        )
        return network(latent, torch.tensor([500.0], device=DEVICE), conditioning, sdpa)

    size = f"{config.layers} blocks of {config.dim}, {t * h * w // 4} tokens"
    return Subject(f"{size}, outliers" if outlier > 1 else size, network, run)


def text_stack(small: bool) -> Subject:
    """Blocks of umT5-XXL."""
    sizes: dict[str, int] = (
        {"dim": 64, "dim_attn": 64, "dim_ffn": 128, "heads": 4, "layers": 2}
        if small
        else {"layers": 6}
    )
    config = TextEncoderConfig(vocab=1000, **sizes)
    torch.manual_seed(0)
    network = build("text_encoder", config, str(DEVICE))
    ids = torch.randint(1000, (40,)).tolist()
    return Subject(f"{config.layers} blocks of {config.dim}", network, lambda net: net(ids))


if __name__ == "__main__":
    main()
