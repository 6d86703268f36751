"""A prepared folder to networks on a device."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.models.audio_encoder import AudioEncoder
from infinitetalk.models.image_encoder import ImageEncoder
from infinitetalk.models.text_encoder import PromptTokenizer, TextEncoder
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights.convert import build, from_original
from infinitetalk.weights.model_config import ModelConfig, read_model_config
from infinitetalk.weights.prepared import (
    TOKENIZER,
    Manifest,
    read_manifest,
    verify,
    weights_file,
)


@dataclass(frozen=True, slots=True)
class Model:
    """All networks of one prepared model, ready to run, and where they came from."""

    transformer: InfiniteTalkTransformer
    vae: VideoVAE
    text_encoder: TextEncoder
    image_encoder: ImageEncoder
    audio_encoder: AudioEncoder
    tokenizer: PromptTokenizer
    device: torch.device
    manifest: Manifest


def component_dtypes(precision: torch.dtype, device: torch.device) -> dict[str, torch.dtype]:
    """The arithmetic of each network: `precision` for the two large ones.

    The VAE and the speech encoder are small and sensitive: float32, as in the reference. So is the
    image encoder, but on a GPU the reference runs it in float16.
    """
    image = torch.float16 if device.type == "cuda" else torch.float32
    return {
        "transformer": precision,
        "vae": torch.float32,
        "text_encoder": precision,
        "image_encoder": image,
        "audio_encoder": torch.float32,
    }


def load_model(
    folder: Path,
    device: torch.device,
    precision: torch.dtype,
    *,
    on_component: Callable[[str], None] = lambda _: None,
) -> Model:
    """Verify a prepared folder and load it.

    Args:
        precision: of transformer and text encoder; see `component_dtypes`.
        on_component: told the name of each network before it is read.

    Raises:
        WeightsMissing: there is no prepared model in `folder`.
        WeightsCorrupt: a file is missing, partial, altered or of another format.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest)
    config = read_model_config(folder)
    networks: dict[str, Any] = {}
    for name, dtype in component_dtypes(precision, device).items():
        on_component(name)
        networks[name] = load_component(folder, config, name, device, dtype)
    tokenizer = _load_tokenizer(folder / TOKENIZER, config.text_encoder.max_tokens)
    return Model(**networks, tokenizer=tokenizer, device=device, manifest=manifest)


def _load_tokenizer(path: Path, max_tokens: int) -> PromptTokenizer:
    try:
        return PromptTokenizer(path, max_tokens)
    except Exception as error:  # the library raises nothing narrower
        raise WeightsCorrupt(f"{path.name} is unreadable.") from error


def load_component(
    folder: Path, config: ModelConfig, name: str, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """One network of a prepared folder, without allocating it twice."""
    try:
        weights = load_file(folder / weights_file(name), device=str(device))
    except (OSError, SafetensorError) as error:
        raise WeightsCorrupt(f"The weights file of {name} is unreadable.") from error
    sizes = getattr(config, name)
    network = build(name, sizes, "meta")
    network.load_state_dict(from_original(name, sizes, weights), strict=True, assign=True)
    return network.requires_grad_(False).to(device=device, dtype=dtype)
