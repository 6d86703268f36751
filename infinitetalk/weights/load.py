"""A prepared folder to networks on a device.

Networks are built without memory, checked against the header of their file, and filled by
`reading`; what is stored in 8 bits gets layers that compute in 8 bits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.errors import OutOfMemory, WeightsCorrupt
from infinitetalk.models.audio_encoder import AudioEncoder
from infinitetalk.models.float8 import FLOAT8, Kernel, float8_kernel
from infinitetalk.models.image_encoder import ImageEncoder
from infinitetalk.models.text_encoder import PromptTokenizer, TextEncoder
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights.convert import arrange, build, float8_keys, is_scale, require_fit
from infinitetalk.weights.model_config import read_model_config
from infinitetalk.weights.prepared import (
    TOKENIZER,
    Manifest,
    damaged,
    read_manifest,
    remedy,
    verify,
    weights_file,
)
from infinitetalk.weights.quantize import is_quantized, quantized
from infinitetalk.weights.reading import Finish, read_header, read_tensors
from infinitetalk.weights.safetensors_header import TensorEntry
from infinitetalk.weights.text_placement import TextPlacement

OnProgress = Callable[[str, int, int], None]
"""Told the network, how many bytes of its file have been read, and how many there are."""


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


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a network goes, and its arithmetic; what its file has in 8 bits stays so."""

    device: torch.device
    dtype: torch.dtype
    is_quantized: bool = False  # on the way, whatever its file has


def component_dtypes(precision: torch.dtype, device: torch.device) -> dict[str, torch.dtype]:
    """The arithmetic of each network: `precision` for the two large ones.

    The speech encoder is small and sensitive: float32, as in the reference. So are the VAE and the
    image encoder on a CPU. On a GPU the reference runs the image encoder in float16, and so does
    the VAE here, unless the large ones are in float32: its error is far below a level of 255.
    """
    on_gpu = device.type == "cuda"
    image = torch.float16 if on_gpu else torch.float32
    video = torch.float16 if on_gpu and precision is not torch.float32 else torch.float32
    return {
        "transformer": precision,
        "vae": video,
        "text_encoder": precision,
        "image_encoder": image,
        "audio_encoder": torch.float32,
    }


def placements(
    precision: torch.dtype, device: torch.device, text_encoder: TextPlacement
) -> dict[str, Placement]:
    """Where each network goes; a text encoder that makes room for a GPU computes in bfloat16."""
    dtypes = component_dtypes(precision, device)
    places = {name: Placement(device, dtype) for name, dtype in dtypes.items()}
    if text_encoder is TextPlacement.DEVICE_FP8:
        places["text_encoder"] = Placement(device, dtypes["text_encoder"], is_quantized=True)
    elif text_encoder is TextPlacement.CPU and device.type != "cpu":
        places["text_encoder"] = Placement(torch.device("cpu"), torch.bfloat16)
    return places


def load_model(
    folder: Path,
    device: torch.device,
    precision: torch.dtype,
    *,
    text_encoder: TextPlacement = TextPlacement.DEVICE,
    stamps: Path | None = None,
    on_progress: OnProgress = lambda _name, _done, _total: None,
) -> Model:
    """Verify a prepared folder and load it.

    Args:
        precision: of transformer and text encoder; see `component_dtypes`.
        text_encoder: where it goes; on the CPU beside a GPU, its output has to be moved.
        stamps: where it is noted that hashes were right if `folder` is read-only.
        on_progress: told of every few megabytes, and of each network before it is read.

    Raises:
        WeightsMissing: there is no prepared model in `folder`.
        WeightsCorrupt: a file is missing, partial, altered or of another format.
        OutOfMemory: the device has no room.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest, stamps=stamps)
    config = read_model_config(folder)
    kernel = float8_kernel(device)
    networks: dict[str, Any] = {}
    for name, placement in placements(precision, device, text_encoder).items():
        with _mended(folder, weights_file(name), manifest):
            networks[name] = load_component(
                folder / weights_file(name),
                name,
                getattr(config, name),
                placement,
                kernel,
                on_progress,
            )
    with _mended(folder, TOKENIZER, manifest):
        tokenizer = _load_tokenizer(folder / TOKENIZER, config.text_encoder.max_tokens)
    return Model(**networks, tokenizer=tokenizer, device=device, manifest=manifest)


@contextmanager
def _mended(folder: Path, file: str, manifest: Manifest) -> Iterator[None]:
    """What goes wrong with a file as an error that names it and says what to do."""
    try:
        yield
    except (OSError, EOFError) as error:
        raise damaged(folder, file, manifest, "unreadable") from error
    except WeightsCorrupt as error:
        raise WeightsCorrupt(f"{error.message} {remedy(manifest)}") from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"The device has no room for the weights in {file}.") from error


def _load_tokenizer(path: Path, max_tokens: int) -> PromptTokenizer:
    try:
        return PromptTokenizer(path, max_tokens)
    except Exception as error:  # the library raises nothing narrower
        raise OSError(path.name) from error


def load_component(
    path: Path,
    name: str,
    config: Any,
    placement: Placement,
    kernel: Kernel,
    on_progress: OnProgress = lambda _name, _done, _total: None,
) -> nn.Module:
    """One network from its file, without ever holding it twice.

    Args:
        config: the sizes of the network.
        kernel: multiplies in layers in 8 bits.

    Raises:
        WeightsCorrupt: the file holds something else.
        OSError, EOFError: the file cannot be read.
    """
    entries = _read_header(path)
    _require_scales(name, entries)
    require_fit(name, config, {key: entry.shape for key, entry in entries.items()})
    float8 = float8_keys(entries)
    if placement.is_quantized:
        float8 |= {key for key in entries if is_quantized(key, name)}
    network = build(name, config, "meta", float8=float8, kernel=kernel)
    weights = read_tensors(
        path,
        entries,
        placement.device,
        finish=_finishing(placement.dtype, float8),
        on_bytes=_counting(name, entries, on_progress),
    )
    network.load_state_dict(arrange(name, config, network, weights), strict=True, assign=True)
    if placement.device.type == "cuda":
        torch.cuda.empty_cache()  # pieces of fused layers, in sizes that nothing else has
    return network.to(placement.device)  # buffers that no file holds


def _read_header(path: Path) -> Mapping[str, TensorEntry]:
    try:
        return read_header(path)
    except ValueError as error:
        raise OSError(f"{path.name} is no safetensors file") from error


def _require_scales(name: str, entries: Mapping[str, TensorEntry]) -> None:
    """Refuse 8 bits without scales, and scales of something else."""
    float8 = {key for key, entry in entries.items() if entry.dtype is FLOAT8}
    for key in sorted(float8 ^ float8_keys(entries)):
        what = "8 bits and no scale" if key in float8 else "a scale and not 8 bits"
        raise WeightsCorrupt(f"The weights of {name} do not fit: {key} has {what}.")


def _finishing(dtype: torch.dtype, float8: Collection[str]) -> Finish:
    """What a network keeps of a tensor: 8 bits with their scale, or the network's own dtype."""

    def finish(key: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if tensor.dtype is FLOAT8 or not tensor.is_floating_point():
            return {key: tensor}
        if is_scale(key):
            return {key: tensor.float()}
        return quantized(key, tensor) if key in float8 else {key: tensor.to(dtype)}

    return finish


def _counting(
    name: str, entries: Mapping[str, TensorEntry], on_progress: OnProgress
) -> Callable[[int], None]:
    total = sum(entry.size for entry in entries.values())
    done = 0
    on_progress(name, done, total)

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress(name, done, total)

    return count
