"""Original checkpoints of any sizes: keys, shapes and layouts of the released ones, random values.

The sources of a part have the same values however they are laid out, so that it must not matter
which one is taken. A hollow file has no values at all, only room for them: it may be of any size
and takes none.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.weights.catalog import Part, Source
from infinitetalk.weights.convert import build, to_original
from infinitetalk.weights.model_config import ModelConfig
from infinitetalk.weights.synthetic import random_weight

Shapes = Mapping[str, torch.Size]
RANK = 4  # of the LoRAs
NUDGE = 0.02  # what their values are multiplied with: the model changes, but not beyond use
STORED = {
    "float32": (torch.float32, "F32"),
    "float16": (torch.float16, "F16"),
    "bfloat16": (torch.bfloat16, "BF16"),
}
ADAPTER = re.compile(r"audio_proj\..*|blocks\.\d+\.(audio_cross_attn|norm_x)\..*")
LORA_PAIRS = re.compile(r"blocks\.\d+\.(self_attn\.[qkvo]|cross_attn\.[qkvo]|ffn\.[02])\.weight")
LORA_DIFFERENCES = re.compile(r"blocks\.\d+\.(.*norm_[qk]|norm3|ffn\.2)\..*|patch_embedding\..*")
OTHER_NAMES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


def write_checkpoint(
    root: Path, part: Part, source: Source, sizes: ModelConfig, *, hollow: bool
) -> None:
    """Write the files of a source, the tensors spread over them."""
    shapes = list(checkpoint(part, source, sizes).items())
    share = -(-len(shapes) // len(source.files))
    dtype, name = STORED.get(source.dtype, STORED["bfloat16"])
    for index, file in enumerate(source.files):
        path, some = root / file.path, dict(shapes[index * share : (index + 1) * share])
        path.parent.mkdir(parents=True, exist_ok=True)
        if not hollow:
            values = {key: _value(part, key, shape).to(dtype) for key, shape in some.items()}
            save_file(values, path) if _is_safe(path) else torch.save(values, path)
        elif _is_safe(path):
            _write_hollow(path, some, dtype.itemsize, name)
        else:
            with torch.serialization.skip_data():
                torch.save({k: torch.empty(size, dtype=dtype) for k, size in some.items()}, path)


def checkpoint(part: Part, source: Source, sizes: ModelConfig) -> dict[str, torch.Size]:
    """Keys and shapes of a source."""
    name = part.component
    config = getattr(sizes, name)
    tensors = to_original(name, config, build(name, config, "meta").state_dict())
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if part.scale is not None:
        return _lora(shapes, ("B", "A") if "standard" in part.presets else ("up", "down"))
    if name == "transformer":
        is_wanted = part.name == "audio"
        return {k: size for k, size in shapes.items() if bool(ADAPTER.fullmatch(k)) == is_wanted}
    if name == "image_encoder":
        return _with_text_tower(shapes, config.layers)
    if name == "audio_encoder":
        has_other_names = source.files[0].path.endswith(".safetensors")
        return _with_training_heads(shapes, config.dim, has_other_names=has_other_names)
    return shapes


def _value(part: Part, key: str, shape: torch.Size) -> Tensor:
    """By what it is, not by the name that a file has for it; the two audio adapters differ."""
    for name, other in OTHER_NAMES.items():
        key = key.replace(other, name)
    value = random_weight(f"{part.name}.{part.speakers}.{part.presets}.{key}", shape)
    return value * NUDGE if part.scale is not None else value


def _lora(base: Shapes, halves: tuple[str, str]) -> dict[str, torch.Size]:
    """Pairs for the linears of the blocks, differences for some others, and what is ignored."""
    left, right = halves
    lora: dict[str, torch.Size] = {"alphabet.weight": torch.Size([1])}
    for key, shape in base.items():
        module, _, kind = f"diffusion_model.{key}".rpartition(".")
        if LORA_PAIRS.fullmatch(key):
            lora[f"{module}.lora_{left}.weight"] = torch.Size([shape[0], RANK])
            lora[f"{module}.lora_{right}.weight"] = torch.Size([RANK, shape[1]])
            lora[f"{module}.alpha"] = torch.Size([])
        elif LORA_DIFFERENCES.fullmatch(key):
            lora[f"{module}.{'diff' if kind == 'weight' else 'diff_b'}"] = shape
    return lora


def _with_text_tower(visual: Shapes, layers: int) -> dict[str, torch.Size]:
    """The released file has a second network, and the end of the first, which nobody needs."""
    size = visual["visual.cls_embedding"][-1]
    last = {
        key.replace(".transformer.0.", f".transformer.{layers - 1}."): shape
        for key, shape in visual.items()
        if ".transformer.0." in key
    }
    others = {
        "log_scale": [],
        "visual.head": [size, 8],
        "visual.post_norm.weight": [size],
        "visual.post_norm.bias": [size],
        "textual.token_embedding.weight": [16, 8],
        "textual.blocks.0.attn.q.weight": [8, 8],
        "textual.blocks.0.attn.q.bias": [8],
        "textual.head.0.weight": [8, 8],
    }
    return {**visual, **last, **{key: torch.Size(shape) for key, shape in others.items()}}


def _with_training_heads(
    network: Shapes, size: int, *, has_other_names: bool
) -> dict[str, torch.Size]:
    """The released file has what the pre-training needed; its conversion has newer names."""
    named = {}
    for key, shape in network.items():
        first, _, last = key.rpartition(".")
        last = OTHER_NAMES.get(last, last) if has_other_names else last
        named[f"wav2vec2.{first}.{last}"] = shape
    heads = {
        "wav2vec2.masked_spec_embed": [size],
        "quantizer.codevectors": [1, 8, 4],
        "quantizer.weight_proj.weight": [8, size],
        "quantizer.weight_proj.bias": [8],
        "project_hid.weight": [8, size],
        "project_hid.bias": [8],
        "project_q.weight": [8, 4],
        "project_q.bias": [8],
    }
    return {**named, **{key: torch.Size(shape) for key, shape in heads.items()}}


def _is_safe(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _write_hollow(path: Path, shapes: Shapes, itemsize: int, dtype: str) -> None:
    """A safetensors file whose data are a hole in the file."""
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + shape.numel() * itemsize
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
