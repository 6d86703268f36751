"""Original names to our modules and back, for sizes nobody released."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.models.audio_encoder import AudioEncoderConfig
from infinitetalk.models.float8 import FLOAT8
from infinitetalk.models.image_encoder import ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoderConfig
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.models.vae import VAEConfig
from infinitetalk.weights.convert import (
    COMPONENTS,
    arrange,
    build,
    fit,
    from_original,
    to_original,
)
from infinitetalk.weights.quantize import quantized


def transformer(layers: int = 2, heads: int = 2) -> TransformerConfig:
    return TransformerConfig(
        dim=12 * heads,
        ffn_dim=20,
        heads=heads,
        layers=layers,
        freq_dim=8,
        text_dim=6,
        text_tokens=5,
        image_dim=7,
        audio_layers=2,
        audio_dim=3,
        audio_hidden=4,
        audio_token_dim=6,
        audio_tokens=2,
    )


def image(layers: int) -> ImageEncoderConfig:
    return ImageEncoderConfig(dim=12, mlp_ratio=2, heads=3, layers=layers, patch=7, image_size=28)


Q = "blocks.0.self_attn.q.weight"
SIZES = [
    ("transformer", transformer()),
    ("transformer", transformer(layers=1, heads=5)),
    ("transformer", transformer(layers=3, heads=1)),
    ("vae", VAEConfig(dim=2, num_res_blocks=1)),
    ("vae", VAEConfig(dim=2, num_res_blocks=2)),
    ("vae", VAEConfig(dim=2, dim_mult=(1, 1, 2, 2), num_res_blocks=3)),
    ("text_encoder", TextEncoderConfig(11, 8, 12, 10, 3, 1)),
    ("text_encoder", TextEncoderConfig(11, 8, 8, 10, 2, 4, buckets=16)),
    ("image_encoder", image(layers=2)),
    ("image_encoder", image(layers=5)),
    ("audio_encoder", AudioEncoderConfig(16, 8, 1, 2, 24, 6, 4)),
    ("audio_encoder", AudioEncoderConfig(16, 8, 3, 4, 24, 8, 2)),
]
SMALLEST = dict(reversed(SIZES))
every_size = pytest.mark.parametrize(
    ("name", "config"), SIZES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(SIZES)]
)
every_component = pytest.mark.parametrize("name", COMPONENTS)


def original(name: str, config: Any) -> dict[str, Tensor]:
    """Random weights as the original file would hold them."""
    generator = torch.Generator().manual_seed(14)
    state = build(name, config, "meta").state_dict()
    drawn = {key: torch.randn(t.shape, generator=generator) for key, t in state.items()}
    return to_original(name, config, drawn)


@every_size
def test_there_and_back_is_the_same_file(name: str, config: Any) -> None:
    file = original(name, config)
    again = to_original(name, config, from_original(name, config, file))
    assert again.keys() == file.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in file.items())


@every_size
def test_the_module_takes_every_tensor(name: str, config: Any) -> None:
    module = build(name, config)
    module.load_state_dict(from_original(name, config, original(name, config)), strict=True)


@every_size
def test_only_the_embedding_of_the_text_is_taken_twice(name: str, config: Any) -> None:
    """All values are different, so a tensor taken twice or from elsewhere shows."""
    file = original(name, config)
    taken = torch.cat([t.flatten() for t in from_original(name, config, file).values()])
    stored = torch.cat([t.flatten() for t in file.values()])
    twice = file["token_embedding.weight"].numel() if name == "text_encoder" else 0
    assert len(taken) == len(stored) + twice
    assert torch.equal(taken.unique(), stored.unique())


@every_component
def test_a_missing_key_is_named(name: str) -> None:
    file = original(name, SMALLEST[name])
    lost = sorted(file)[len(file) // 2]
    del file[lost]
    with pytest.raises(WeightsCorrupt) as refused:
        from_original(name, SMALLEST[name], file)
    assert f"{name} do not fit: 1 missing ({lost})" in refused.value.message


@every_component
def test_an_unknown_key_is_named(name: str) -> None:
    file = original(name, SMALLEST[name]) | {"blocks.9.surprise": torch.zeros(1)}
    with pytest.raises(WeightsCorrupt, match=r"1 not known \(blocks\.9\.surprise\)"):
        from_original(name, SMALLEST[name], file)


@every_component
@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.new_zeros((t.shape[0] + 1, *t.shape[1:])),
        lambda t: t[None],
        lambda t: t.new_zeros(()),
        lambda t: t.flatten()[:1],
    ],
    ids=["one row more", "an axis more", "a scalar", "one value"],
)
def test_tensors_of_another_shape_are_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    file = original(name, SMALLEST[name])
    spoiled = {key: spoil(tensor) for key, tensor in file.items()}
    changed = sorted(key for key in file if spoiled[key].shape != file[key].shape)
    with pytest.raises(WeightsCorrupt, match="of another shape"):
        from_original(name, SMALLEST[name], spoiled)
    found = fit(name, SMALLEST[name], {key: tuple(t.shape) for key, t in spoiled.items()})
    assert sorted({text.split(" is ")[0] for text in found.mismatched}) == changed


def test_many_faults_are_counted_and_three_are_shown() -> None:
    with pytest.raises(WeightsCorrupt, match=r"\d\d missing \(.+, .+, .+, \.\.\.\)"):
        from_original("transformer", transformer(), {})


def test_what_the_image_file_holds_besides_is_ignored() -> None:
    config = image(layers=3)
    file = original("image_encoder", config)
    others = (
        "textual.token_embedding.weight",
        "textual.transformer.3.attn.weight",
        "log_scale",
        "visual.head",
        "visual.post_norm.weight",
        "visual.post_norm.bias",
        "visual.transformer.2.norm1.weight",  # the last block
        "visual.transformer.2.mlp.0.bias",
    )
    shapes = {key: tuple(t.shape) for key, t in file.items()} | dict.fromkeys(others, (1,))
    found = fit("image_encoder", config, shapes)
    assert found.is_exact
    assert found.unused == tuple(sorted(others))


@pytest.mark.parametrize("key", ["visual.transformer.3.norm1.weight", "textual", "visual.head2"])
def test_no_other_key_of_the_image_file_is_ignored(key: str) -> None:
    config = image(layers=3)
    shapes = {k: tuple(t.shape) for k, t in original("image_encoder", config).items()}
    assert fit("image_encoder", config, shapes | {key: (1,)}).unexpected == (key,)


def test_what_the_speech_file_holds_besides_is_ignored() -> None:
    config = SMALLEST["audio_encoder"]
    others = ("masked_spec_embed", "quantizer.codevectors", "project_hid.weight", "project_q.bias")
    shapes = {k: tuple(t.shape) for k, t in original("audio_encoder", config).items()}
    found = fit("audio_encoder", config, shapes | dict.fromkeys(others, (1,)))
    assert found.is_exact
    assert found.unused == tuple(sorted(others))


def renamed(file: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    assert any(old in key for key in file)
    return {key.replace(old, new): tensor for key, tensor in file.items()}


@pytest.mark.parametrize("is_prefixed", [False, True])
@pytest.mark.parametrize("is_new", [False, True], ids=["weight_g", "parametrizations"])
def test_every_way_to_name_the_speech_weights_gives_the_same(
    is_new: bool, is_prefixed: bool
) -> None:
    config = SMALLEST["audio_encoder"]
    file = named = original("audio_encoder", config)
    if is_new:
        named = renamed(named, "weight_g", "parametrizations.weight.original0")
        named = renamed(named, "weight_v", "parametrizations.weight.original1")
    if is_prefixed:
        named = {f"wav2vec2.{key}": tensor for key, tensor in named.items()}
    wanted, got = (from_original("audio_encoder", config, f) for f in (file, named))
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)


def test_fused_rows_are_query_key_and_value_in_that_order() -> None:
    config = image(layers=2)
    file = original("image_encoder", config)
    fused = file["visual.transformer.0.attn.to_qkv.weight"]
    state = from_original("image_encoder", config, file)
    parts = [t for part in "qkv" for k, t in state.items() if f"{part}_proj.weight" in k]
    assert torch.equal(torch.cat(parts), fused)


def test_query_key_and_value_of_the_transformer_are_rows_of_one_layer() -> None:
    config = transformer()
    file = original("transformer", config)
    state = from_original("transformer", config, file)
    for kind in ("weight", "bias"):
        parts = [file[f"blocks.1.self_attn.{part}.{kind}"] for part in "qkv"]
        assert torch.equal(state[f"blocks.1.self_attn.qkv.{kind}"], torch.cat(parts))


def test_in_8_bits_their_scales_follow_them() -> None:
    config = transformer()
    file = original("transformer", config)
    for part in "qkv":
        file |= quantized(f"blocks.0.self_attn.{part}.weight", file[Q.replace("q.", f"{part}.")])
    state = from_original("transformer", config, file)
    for stored, kind in ((FLOAT8, "weight_float8"), (torch.float32, "weight_scale")):
        suffix = kind.replace("_float8", "")
        parts = [file[f"blocks.0.self_attn.{part}.{suffix}"] for part in "qkv"]
        assert state[f"blocks.0.self_attn.qkv.{kind}"].dtype == stored
        assert torch.equal(
            state[f"blocks.0.self_attn.qkv.{kind}"].float(), torch.cat(parts).float()
        )


def test_no_tensor_of_a_fused_layer_is_held_twice() -> None:
    config = transformer()
    weights = original("transformer", config)
    network = build("transformer", config, "meta")
    state = arrange("transformer", config, network, weights)
    left = {key for key in weights if ".self_attn." in key and "norm" not in key}
    assert left == {f"blocks.{i}.self_attn.o.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    kept = {tensor.data_ptr() for tensor in weights.values()}
    fused = {tensor.data_ptr() for key, tensor in state.items() if ".qkv." in key}
    assert not kept & fused


def test_a_part_of_another_shape_is_named_alone() -> None:
    config = transformer()
    shapes = {k: tuple(t.shape) for k, t in original("transformer", config).items()}
    shapes[Q] = (12, 24)
    assert fit("transformer", config, shapes).mismatched == (f"{Q} is [12, 24]",)


def test_a_fit_reads_no_weights() -> None:
    config = transformer()
    shapes = {k: tuple(t.shape) for k, t in original("transformer", config).items()}
    assert fit("transformer", config, shapes).is_exact


@every_component
def test_the_released_sizes_are_built_without_memory(name: str) -> None:
    module = build(name, COMPONENTS[name].config(), "meta")
    assert all(p.is_meta for p in module.parameters())
