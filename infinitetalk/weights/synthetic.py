"""Models of random weights from a fixed seed: `tiny` for tests, `demo` until one is trained.

They pass through the same prepared format, converters and loader as the released weights.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from infinitetalk.models.audio_encoder import AudioEncoderConfig
from infinitetalk.models.image_encoder import ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoderConfig
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.models.vae import VAEConfig
from infinitetalk.weights.convert import COMPONENTS, build, to_original
from infinitetalk.weights.model_config import ModelConfig, write_model_config
from infinitetalk.weights.prepared import (
    BF16,
    FP8,
    TOKENIZER,
    preparing,
    weights_file,
    write_manifest,
)
from infinitetalk.weights.quantize import is_quantized, quantized

SEED = 20250819
SPEAKERS = 2
RECIPE = f"random weights, seed {SEED}, layout 1"
_CPU = torch.device("cpu")


def _tiny(vocabulary: int) -> ModelConfig:
    return ModelConfig(
        transformer=TransformerConfig(
            dim=64,
            ffn_dim=128,
            heads=2,
            layers=2,
            freq_dim=64,
            text_dim=32,
            text_tokens=32,
            image_dim=32,
            audio_layers=2,
            audio_dim=32,
            audio_hidden=32,
            audio_token_dim=32,
            audio_tokens=4,
        ),
        vae=VAEConfig(dim=4, dim_mult=(1, 1, 2, 2), num_res_blocks=1),
        text_encoder=TextEncoderConfig(vocabulary, 32, 32, 64, 2, 1, max_tokens=32),
        image_encoder=ImageEncoderConfig(32, 2, 2, 2, 14, 56),
        audio_encoder=AudioEncoderConfig(32, 16, 2, 2, 64),
    )


def _demo(vocabulary: int) -> ModelConfig:
    return ModelConfig(
        transformer=TransformerConfig(
            dim=256,
            ffn_dim=1024,
            heads=4,
            layers=6,
            text_dim=64,
            text_tokens=64,
            image_dim=128,
            audio_layers=4,
            audio_dim=96,
            audio_hidden=128,
            audio_token_dim=128,
            audio_tokens=8,
        ),
        vae=VAEConfig(dim=16, num_res_blocks=1),
        text_encoder=TextEncoderConfig(vocabulary, 64, 64, 128, 4, 2, max_tokens=64),
        image_encoder=ImageEncoderConfig(128, 4, 4, 2),
        audio_encoder=AudioEncoderConfig(96, 48, 4, 4, 192),
    )


SIZES: Mapping[str, Callable[[int], ModelConfig]] = {"tiny": _tiny, "demo": _demo}


def model_config(preset: str) -> ModelConfig:
    """Sizes of `tiny` or `demo`."""
    with _tokenizer() as path:
        return SIZES[preset](Tokenizer.from_file(str(path)).get_vocab_size())


def folder_name(preset: str, precision: str = BF16) -> str:
    """A name that changes with recipe, sizes or tokenizer: an outdated folder is not used."""
    with _tokenizer() as path:
        parts = (RECIPE, repr(model_config(preset)), path.read_text())
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return f"{preset}-{precision}-{digest[:12]}"


def write_synthetic(preset: str, folder: Path, precision: str = BF16) -> None:
    """Write the prepared folder of `tiny` or `demo`; the text encoder's is always bf16."""
    with preparing(folder) as part, _tokenizer() as tokenizer:
        shutil.copyfile(tokenizer, part / TOKENIZER)
        config = model_config(preset)
        for name in COMPONENTS:
            sizes = getattr(config, name)
            shapes = to_original(name, sizes, build(name, sizes, "meta").state_dict())
            is_fp8 = name == "transformer" and precision == FP8
            weights = random_weights(name, shapes, is_fp8=is_fp8)
            save_file(weights, part / weights_file(name))
        write_model_config(part, config)
        write_manifest(part, preset, precision, SPEAKERS, RECIPE)


@contextmanager
def _tokenizer() -> Iterator[Path]:
    with as_file(files("infinitetalk.demo") / "assets" / TOKENIZER) as path:
        yield path


def random_weights(
    name: str,
    shapes: Mapping[str, Tensor],
    *,
    is_fp8: bool = False,
    device: torch.device = _CPU,
) -> dict[str, Tensor]:
    """The tensors of a network under original names, as they are stored.

    Args:
        device: draws them; each kind of device draws numbers of its own.
    """
    weights: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        weight = random_weight(f"{name}.{key}", shape.shape, device)
        weights |= quantized(key, weight) if is_fp8 and is_quantized(key, name) else {key: weight}
    return weights


def random_weight(key: str, shape: torch.Size, device: torch.device = _CPU) -> Tensor:
    """A weight that depends on its name alone: norms 1, biases 0, matrices of unit gain."""
    if key.endswith("bias"):
        return torch.zeros(shape, dtype=torch.bfloat16, device=device)
    if len(shape) == 1 or key.endswith(("gamma", "weight_g")):
        return torch.ones(shape, dtype=torch.bfloat16, device=device)
    seed = int.from_bytes(hashlib.sha256(f"{SEED}.{key}".encode()).digest()[:7], "big")
    values = torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    fan_in = shape[1:].numel() if "embedding" not in key else shape[-1]
    return (values / fan_in**0.5).to(torch.bfloat16)
