from pathlib import Path

import pytest
import torch
from torch import nn

from infinitetalk.models.attention import sdpa
from infinitetalk.models.float8 import dequantize, quantize_linears
from infinitetalk.models.transformer import Conditioning
from infinitetalk.parity.case import Case
from infinitetalk.parity.networks import make, transformer_config
from infinitetalk.weights.convert import COMPONENTS, build, to_original
from infinitetalk.weights.quantize import is_quantized, quantized


def original_shapes(component: str) -> dict[str, torch.Size]:
    """Of the released sizes."""
    config = COMPONENTS[component].config()
    state = build(component, config, "meta").state_dict()
    return {key: tensor.shape for key, tensor in to_original(component, config, state).items()}


@pytest.mark.parametrize(
    ("component", "layers", "share"),
    [("transformer", 40 * 15, 0.98), ("text_encoder", 24 * 7, 0.81)],
)
def test_the_matrices_of_the_blocks_are_quantised(
    component: str, layers: int, share: float
) -> None:
    """That is nearly all of the transformer; a fifth of the text encoder is its vocabulary."""
    shapes = original_shapes(component)
    chosen = {key: shape for key, shape in shapes.items() if is_quantized(key, component)}
    assert len(chosen) == layers
    assert all(len(shape) == 2 and shape[1] % 16 == 0 for shape in chosen.values())
    values = sum(shape.numel() for shape in chosen.values())
    assert values / sum(shape.numel() for shape in shapes.values()) == pytest.approx(
        share, abs=0.01
    )


@pytest.mark.parametrize("component", ["vae", "image_encoder", "audio_encoder"])
def test_small_networks_are_not_quantised(component: str) -> None:
    assert not any(is_quantized(key, component) for key in original_shapes(component))


@pytest.mark.parametrize(
    "key",
    [
        "patch_embedding.weight",
        "text_embedding.0.weight",
        "time_embedding.2.weight",
        "time_projection.1.weight",
        "img_emb.proj.1.weight",
        "audio_proj.proj1.weight",
        "head.head.weight",
        "blocks.0.modulation",
        "blocks.0.norm3.weight",
        "blocks.0.self_attn.norm_q.weight",
        "blocks.0.self_attn.q.bias",
        "blocks.0.ffn.1.weight",
        "prefix.blocks.0.ffn.0.weight",
    ],
)
def test_what_is_small_or_sensitive_stays(key: str) -> None:
    assert not is_quantized(key)


def test_a_quantised_weight_is_stored_with_the_scales_of_its_rows() -> None:
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    stored = quantized("blocks.0.ffn.0.weight", weight)
    values, scale = stored["blocks.0.ffn.0.weight"], stored["blocks.0.ffn.0.weight_scale"]
    assert (values.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, (6,))
    torch.testing.assert_close(dequantize(values, scale), weight, rtol=1 / 16, atol=0.01)


def test_the_golden_transformer_is_off_by_four_percent_in_8_bits() -> None:
    """One rounded product is off by 3.7 % (tests/models/test_float8.py). The errors of a block's
    fifteen are independent and partly hidden behind the tokens they are added to."""
    case = Case(Path("tests/data/case_dit_single"))
    inputs = {key: tensor[None] for key, tensor in case.inputs.items()}
    config = transformer_config(case.info["config"], case.inputs["audio"])
    network = make("transformer", config, case.weights, case, torch.float32)
    linears = [
        name
        for name, layer in network.blocks.named_modules(prefix="blocks")
        if isinstance(layer, nn.Linear)
    ]
    quantize_linears(network, linears)
    with torch.inference_mode():
        conditioning = Conditioning(
            case.inputs["y"],
            network.rotary(inputs["latent"].shape[2:]),
            network.text_keys(inputs["context"]),
            network.image_keys(case.inputs["clip_fea"]),
            network.audio_keys(inputs["audio"]),
        )
        found = network(inputs["latent"], inputs["timesteps"][0, :1], conditioning, sdpa)[0]
    golden = case.outputs["velocity_t0"]
    assert len(linears) == 2 * 13  # query, key and value are one
    assert 0.03 < (found - golden).norm() / golden.norm() < 0.045
