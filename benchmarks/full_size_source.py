"""A folder of original files at full size: all keys, shapes and places of the released ones, random
numbers. The transformer, its adapter and the LoRA are in bfloat16, as is the text encoder; the
others in float32.

For machines without a way to the hub, with a GPU to draw on: 56 GB for `standard`.

python -m benchmarks.full_size_source FOLDER CATALOG
"""

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.weights.catalog import CATALOG, Catalog, Part, RemoteFile
from infinitetalk.weights.catalog_file import write_catalog
from infinitetalk.weights.convert import build, to_original
from infinitetalk.weights.model_config import ModelConfig, released_config
from infinitetalk.weights.tensor_writer import PlannedTensor, TensorWriter

AUDIO = re.compile(r"audio_proj\..*|blocks\.\d+\.(audio_cross_attn|norm_x)\..*")
LORA = re.compile(r"blocks\.\d+\.(self_attn\.[qkvo]|cross_attn\.[qkvo]|ffn\.[02])\.weight")
RANK = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Shapes = Mapping[str, torch.Size]


def write_sources(folder: Path, preset: str, speakers: int, sizes: ModelConfig) -> Catalog:
    """Write the first source of every part of a preset; the catalog that fits the files."""
    parts = [_unpinned(part) for part in CATALOG.needed(preset, speakers)]
    for part in parts:
        path = folder / part.sources[0].repo / part.sources[0].files[0].path
        path.parent.mkdir(parents=True, exist_ok=True)
        if part.name == "tokenizer":
            shutil.copyfile(str(files("infinitetalk.demo") / "assets" / "tokenizer.json"), path)
        elif path.suffix == ".safetensors":
            _write_safetensors(path, shapes(part, sizes), dtype(part))
        else:
            torch.save(dict(_draw(shapes(part, sizes), dtype(part))), path)
        print(f"{part.name}: {path.stat().st_size / 1e9:.2f} GB", flush=True)
    return Catalog(tuple(parts))


def shapes(part: Part, sizes: ModelConfig) -> Shapes:
    """Original keys of a part."""
    if part.name == "lora":
        return dict(_lora_shapes(sizes))
    config = getattr(sizes, part.component)
    state = build(part.component, config, "meta").state_dict()
    original = {key: t.shape for key, t in to_original(part.component, config, state).items()}
    if part.name not in ("base", "audio"):
        return original
    is_audio = part.name == "audio"
    return {key: shape for key, shape in original.items() if bool(AUDIO.match(key)) is is_audio}


def dtype(part: Part) -> torch.dtype:
    small = part.component in ("vae", "image_encoder", "audio_encoder")
    return torch.float32 if small else torch.bfloat16


def _unpinned(part: Part) -> Part:
    """Only the first source, and nothing that would have to be true of its random numbers."""
    source = part.sources[0]
    names = tuple(RemoteFile(file.path) for file in source.files[:1])
    return replace(part, sources=(replace(source, files=names, revision=None),))


def _lora_shapes(sizes: ModelConfig) -> Iterator[tuple[str, torch.Size]]:
    base = build("transformer", sizes.transformer, "meta").state_dict()
    for key, weight in base.items():
        if LORA.fullmatch(key):
            module = f"diffusion_model.{key.removesuffix('.weight')}"
            yield f"{module}.lora_down.weight", torch.Size((RANK, weight.shape[1]))
            yield f"{module}.lora_up.weight", torch.Size((weight.shape[0], RANK))
            yield f"{module}.alpha", torch.Size(())


def _draw(shapes: Shapes, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for key, shape in shapes.items():
        yield key, (torch.randn(shape, device=DEVICE) * 0.02).to(dtype).cpu()


def _write_safetensors(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    plan = [PlannedTensor(key, dtype, tuple(shape)) for key, shape in shapes.items()]
    with TensorWriter(path, plan) as writer:
        for _, tensor in _draw(shapes, dtype):
            writer.write(tensor)
        writer.finish()


if __name__ == "__main__":
    written = write_sources(Path(sys.argv[1]), "standard", 1, released_config())
    write_catalog(Path(sys.argv[2]), written)
