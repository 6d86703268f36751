"""Original checkpoint names to the modules of `infinitetalk.models`, and back.

Conversion pulls: every tensor a module needs names its source in the original file. So nothing can
be missing unnoticed, and whatever the file holds besides must be on the component's short list of
unused keys. Works for any sizes (the libraries' converters assume the released ones).

A weight `X.weight` beside an `X.weight_scale` is in 8 bits, and its layer a `Float8Linear`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from infinitetalk.models.float8 import Kernel, emulated, quantize_linears
from infinitetalk.models.image_encoder import ImageEncoder, ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoder, TextEncoderConfig
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.models.vae import VAEConfig, VideoVAE

Shape = tuple[int, ...]
SCALE = "_scale"
"""What the key of a weight in 8 bits ends with in the key of its scale."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a module's tensor is in the original file."""

    keys: tuple[str, ...]  # of several tensors of one shape the rows follow each other
    third: int | None = None  # 0, 1, 2: the q, k or v rows of a fused tensor
    leading_ones: int = 0  # axes of size 1 that only the file has

    def shape(self, original: Shape) -> Shape:
        """Shape of the module's tensor if those of the file are `original`; () if they cannot."""
        if not original:
            return ()
        if len(self.keys) > 1:
            return (original[0] * len(self.keys), *original[1:])
        if self.third is not None:
            return (original[0] // 3, *original[1:]) if original[0] % 3 == 0 else ()
        ones = self.leading_ones
        return original[ones:] if original[:ones] == (1,) * ones else ()

    def take(self, originals: Sequence[Tensor]) -> Tensor:
        """The module's tensor: a view where it comes from one."""
        if len(self.keys) > 1:
            return torch.cat(list(originals))
        (original,) = originals
        if self.third is not None:
            return original.chunk(3)[self.third]
        return original.reshape(self.shape(tuple(original.shape)))

    def give(self, tensor: Tensor) -> dict[str, Tensor]:
        """The file's tensors from the module's (views), where the file has them whole."""
        if len(self.keys) > 1:
            return dict(zip(self.keys, tensor.chunk(len(self.keys)), strict=True))
        return {self.keys[0]: tensor.reshape((1,) * self.leading_ones + tensor.shape)}


Rules = Sequence[tuple[str, str]]


def _rename(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _transformer_source(_: TransformerConfig, name: str) -> Source:
    """Query, key and value of the self-attention are one layer here and three in the file."""
    fused = re.fullmatch(r"(.*\.self_attn\.)qkv(\..*)", name)
    return Source(tuple(f"{fused[1]}{part}{fused[2]}" for part in "qkv") if fused else (name,))


_VAE_RULES: Rules = (
    (r"^net\.", ""),
    (r"^quant_conv", "conv1"),
    (r"^post_quant_conv", "conv2"),
    (r"coder\.conv_in", "coder.conv1"),
    (r"coder\.norm_out", "coder.head.0"),
    (r"coder\.conv_out", "coder.head.2"),
    (r"mid_block\.resnets\.0", "middle.0"),
    (r"mid_block\.attentions\.0", "middle.1"),
    (r"mid_block\.resnets\.1", "middle.2"),
    (r"down_blocks", "downsamples"),
    (r"((?:samples|middle|resnets)\.\d+)\.norm1", r"\1.residual.0"),
    (r"((?:samples|middle|resnets)\.\d+)\.conv1", r"\1.residual.2"),
    (r"((?:samples|middle|resnets)\.\d+)\.norm2", r"\1.residual.3"),
    (r"((?:samples|middle|resnets)\.\d+)\.conv2", r"\1.residual.6"),
    (r"conv_shortcut", "shortcut"),
)


def _vae_source(config: VAEConfig, name: str) -> Source:
    """The original numbers the decoder's blocks in one row: a level is its residual blocks and
    its upsampler."""
    level_length = config.num_res_blocks + 2

    def flat(match: re.Match[str]) -> str:
        level, kind, index = int(match[1]), match[2], int(match[3])
        within = index if kind == "resnets" else level_length - 1
        return f"upsamples.{level * level_length + within}"

    name = _rename(name, _VAE_RULES)
    return Source((re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)", flat, name),))


_TEXT_RULES: Rules = (
    (r"^net\.(shared|encoder\.embed_tokens)", "token_embedding"),
    (r"^net\.encoder\.final_layer_norm", "norm"),
    (r"^net\.encoder\.block\.(\d+)", r"blocks.\1"),
    (r"layer\.0\.SelfAttention\.relative_attention_bias", "pos_embedding.embedding"),
    (r"layer\.0\.SelfAttention", "attn"),
    (r"layer\.0\.layer_norm", "norm1"),
    (r"layer\.1\.layer_norm", "norm2"),
    (r"layer\.1\.DenseReluDense\.wi_0", "ffn.gate.0"),
    (r"layer\.1\.DenseReluDense\.wi_1", "ffn.fc1"),
    (r"layer\.1\.DenseReluDense\.wo", "ffn.fc2"),
)


def _text_source(_: TextEncoderConfig, name: str) -> Source:
    return Source((_rename(name, _TEXT_RULES),))


_IMAGE_RULES: Rules = (
    (r"^net\.(vision_model\.)?", "visual."),
    (r"embeddings\.class_embedding", "cls_embedding"),
    (r"embeddings\.position_embedding\.weight", "pos_embedding"),
    (r"embeddings\.patch_embedding", "patch_embedding"),
    (r"pre_layrnorm", "pre_norm"),
    (r"encoder\.layers\.(\d+)", r"transformer.\1"),
    (r"layer_norm([12])", r"norm\1"),
    (r"self_attn\.out_proj", "attn.proj"),
    (r"self_attn\.[qkv]_proj", "attn.to_qkv"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.2"),
)


def _image_source(_: ImageEncoderConfig, name: str) -> Source:
    part = re.search(r"self_attn\.([qkv])_proj", name)
    third = "qkv".index(part[1]) if part else None
    ones = 2 if "class_embedding" in name else int("position_embedding" in name)
    return Source((_rename(name, _IMAGE_RULES),), third, leading_ones=ones)


_AUDIO_RULES: Rules = (
    (r"^net\.", ""),
    (r"feature_extractor\.convolutions", "feature_extractor"),
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
)


def _audio_source(_: AudioEncoderConfig, name: str) -> Source:
    return Source((_rename(name, _AUDIO_RULES),))


def _audio_keys(key: str) -> str:
    """Files differ in a prefix and in the names torch gave weight norm over the years."""
    return _rename(key.removeprefix("wav2vec2."), _AUDIO_RULES[2:])


@dataclass(frozen=True, slots=True)
class Component:
    """One network: how to build it, where its tensors come from, which keys nobody needs."""

    config: type[Any]
    build: Callable[[Any], nn.Module]
    source: Callable[[Any, str], Source]
    unused: Callable[[Any], str] = lambda _: r"(?!)"  # pattern of keys that may be left over
    canonical: Callable[[str], str] = field(default=lambda key: key)


COMPONENTS: Mapping[str, Component] = {
    "transformer": Component(TransformerConfig, InfiniteTalkTransformer, _transformer_source),
    "vae": Component(VAEConfig, VideoVAE, _vae_source),
    "text_encoder": Component(TextEncoderConfig, TextEncoder, _text_source),
    "image_encoder": Component(
        ImageEncoderConfig,
        ImageEncoder,
        _image_source,
        lambda c: (
            r"textual\..*|log_scale|visual\.head|visual\.post_norm\..*"
            rf"|visual\.transformer\.{c.layers - 1}\..*"
        ),
    ),
    "audio_encoder": Component(
        AudioEncoderConfig,
        AudioEncoder,
        _audio_source,
        lambda _: r"masked_spec_embed|quantizer\..*|project_(hid|q)\..*",
        _audio_keys,
    ),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """How the keys of a file fit a module."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]  # allowed to be left over

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)


def build(
    name: str,
    config: Any,
    device: str = "cpu",
    *,
    float8: Collection[str] = (),
    kernel: Kernel = emulated,
) -> nn.Module:
    """Component `name` with uninitialised or random parameters on `device` ("meta" for none).

    Args:
        float8: original keys of the weights that are in 8 bits.
        kernel: multiplies in their layers.
    """
    component = COMPONENTS[name]
    with torch.device(device):
        network = component.build(config)
    linears = {
        module
        for module, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and all(key in float8 for key in component.source(config, f"{module}.weight").keys)
    }
    quantize_linears(network, linears, kernel)
    return network.eval().requires_grad_(False)


def sources(name: str, config: Any, network: nn.Module) -> dict[str, Source]:
    """Where every tensor of a network is in the original file."""
    source = COMPONENTS[name].source
    return {target: _source(source, config, target) for target in network.state_dict()}


def _source(source: Callable[[Any, str], Source], config: Any, target: str) -> Source:
    if is_scale(target):
        weight = source(config, target.removesuffix(SCALE))
        return replace(weight, keys=tuple(key + SCALE for key in weight.keys))
    return source(config, re.sub(r"\.weight_float8$", ".weight", target))


def is_scale(key: str) -> bool:
    """Whether a tensor is the scale of a weight in 8 bits."""
    return key.endswith(f".weight{SCALE}")


def float8_keys(keys: Collection[str]) -> set[str]:
    """The weights in 8 bits among the keys of a file: those with a scale."""
    return {key.removesuffix(SCALE) for key in keys if is_scale(key)}


def fit(name: str, config: Any, shapes: Mapping[str, Shape]) -> Fit:
    """Compare the keys and shapes of a file with what component `name` needs; reads no weights."""
    component = COMPONENTS[name]
    available = {component.canonical(key): shape for key, shape in shapes.items()}
    network = build(name, config, "meta", float8=float8_keys(available))
    wanted, places = network.state_dict(), sources(name, config, network)
    needed = {key for source in places.values() for key in source.keys}
    leftover = available.keys() - needed
    unused = {key for key in leftover if re.fullmatch(component.unused(config), key)}
    wrong = {
        f"{key} is {list(available[key])}"
        for target, source in places.items()
        for key in source.keys
        if key in available and source.shape(available[key]) != tuple(wanted[target].shape)
    }
    rows = (needed - available.keys(), leftover - unused, wrong, unused)
    return Fit(*(tuple(sorted(row)) for row in rows))


def require_fit(name: str, config: Any, shapes: Mapping[str, Shape]) -> None:
    """Refuse a file that does not hold component `name` and nothing else.

    Raises:
        WeightsCorrupt: a key is missing, unknown or of another shape.
    """
    found = fit(name, config, shapes)
    if not found.is_exact:
        raise WeightsCorrupt(f"The weights of {name} do not fit: {_explain(found)}.")


def from_original(name: str, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of component `name` from tensors under original names.

    Raises:
        WeightsCorrupt: a key is missing, unknown or of another shape.
    """
    require_fit(name, config, {key: tuple(tensor.shape) for key, tensor in weights.items()})
    network = build(name, config, "meta", float8=float8_keys(weights))
    return arrange(name, config, network, dict(weights))


def arrange(
    name: str, config: Any, network: nn.Module, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict of a network from tensors that fit it.

    Tensors that become part of a larger one leave `weights`, so that none is held twice.
    """
    canonical = COMPONENTS[name].canonical
    names = {canonical(key): key for key in weights}

    def take(source: Source) -> Tensor:
        keys = [names[key] for key in source.keys]
        get = weights.pop if len(keys) > 1 else weights.__getitem__
        return source.take([get(key) for key in keys])

    return {target: take(source) for target, source in sources(name, config, network).items()}


def to_original(name: str, config: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_original`: a module's state dict under original names."""
    thirds: dict[str, dict[int, Tensor]] = {}
    original: dict[str, Tensor] = {}
    for target, tensor in state.items():
        source = _source(COMPONENTS[name].source, config, target)
        if source.third is not None:
            thirds.setdefault(source.keys[0], {})[source.third] = tensor
        else:
            original |= source.give(tensor)
    for key, parts in thirds.items():
        original[key] = torch.cat([parts[i] for i in range(3)])
    return original


def _explain(found: Fit) -> str:
    rows = (
        ("missing", found.missing),
        ("not known", found.unexpected),
        ("of another shape", found.mismatched),
    )
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in rows
        if keys
    )
