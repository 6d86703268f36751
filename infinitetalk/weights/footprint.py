"""What a model needs of a device's memory: its weights as allocated, a window as an estimate.

The estimate comes from constants that say what is live at the height of each part of a window;
they are measured on an H200 (`python -m benchmarks.memory`) and have to be measured again when the
code of that part changes. The VAE's were 35 and 44 before frames were stacked as channels; what
that adds is reckoned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from infinitetalk.spec import VAE_STRIDE_SPACE, VAE_STRIDE_TIME, BucketTable, Preset
from infinitetalk.weights.convert import COMPONENTS, build, to_original
from infinitetalk.weights.device_memory import GIB, Memory
from infinitetalk.weights.load import component_dtypes
from infinitetalk.weights.model_config import ModelConfig
from infinitetalk.weights.prepared import FP8
from infinitetalk.weights.quantize import is_quantized
from infinitetalk.weights.text_placement import TextPlacement

FORWARD_WIDTHS = 20  # of the transformer, for every token, in its arithmetic; 13 without 8 bits
ENCODE_LAYERS = 42  # of the VAE's width in channels, as large as the picture, in its arithmetic
WHOLE_LAYERS = 2  # likewise: what the decoder makes of the whole picture, for all frames
DECODE_LAYERS = 52  # likewise, as large as a tile: 4 frames at once and the causal cache
MATCH_COPIES = 3  # of a window's frames, float32, while their colours are matched
RESERVE = GIB  # on a GPU: the libraries' workspaces, and gaps between blocks
SPEAKERS = 2  # whose voices are heard at once
_FLOAT32 = 4  # bytes
_LARGE, _STEP = 10 * 2**20, 2 * 2**20  # bytes; of torch's caching allocator

Shapes = Mapping[str, tuple[int, ...]]
"""Original key -> shape."""


@dataclass(frozen=True)
class Footprint:
    """A prepared model as it would be loaded; all sizes in bytes."""

    preset: Preset
    config: ModelConfig
    precision: str  # in which the transformer is stored: bf16 or fp8
    arithmetic: torch.dtype
    device: torch.device

    @cached_property
    def resident(self) -> int:
        """Weights of all networks but the text encoder."""
        dtypes = component_dtypes(self.arithmetic, self.device)
        in_fp8 = {"transformer"} if self.precision == FP8 else set()
        return sum(
            tensor_bytes(name, self._shapes[name], dtype, self.device, is_fp8=name in in_fp8)
            for name, dtype in dtypes.items()
            if name != "text_encoder"
        )

    def text_encoder(self, placement: TextPlacement) -> Memory:
        """Weights of the text encoder, where it is."""
        is_away = placement is TextPlacement.CPU and self.device.type != "cpu"
        size = tensor_bytes(
            "text_encoder",
            self._shapes["text_encoder"],
            torch.bfloat16 if is_away else self.arithmetic,
            torch.device("cpu") if is_away else self.device,
            is_fp8=placement is TextPlacement.DEVICE_FP8,
        )
        return Memory(device=0, host=size) if is_away else Memory(device=size, host=0)

    def window(self, resolution: str, tiles: int = 1) -> int:
        """What a window takes beside the weights, at its highest moment.

        Args:
            tiles: rows and columns in which pictures are decoded.
        """
        reserve = RESERVE if self.device.type == "cuda" else 0
        return max(self.window_parts(resolution, tiles).values()) + reserve

    def window_parts(self, resolution: str, tiles: int = 1) -> Mapping[str, int]:
        """The same for each part of a window, as `benchmarks.memory` measures them."""
        keys, frames = self._keys(), self._frames(resolution)
        buckets = self.preset.buckets[resolution]
        layer, tile = self._layer(largest(buckets)), self._layer(self._tile(buckets, tiles))
        return {
            "VAE encode": keys + frames + layer * ENCODE_LAYERS,
            "transformer forward": keys + self._token_values(resolution) * FORWARD_WIDTHS,
            "VAE decode": keys + frames + layer * WHOLE_LAYERS + tile * DECODE_LAYERS,
            "colour match": keys + frames * MATCH_COPIES,
        }

    def _layer(self, pixels: int) -> int:
        """Channels of the VAE's width for so many pixels."""
        dtype = component_dtypes(self.arithmetic, self.device)["vae"]
        return int(pixels * self.config.vae.dim * dtype.itemsize)

    def _tile(self, buckets: BucketTable, count: int) -> int:
        """Pixels of the largest tile: its part of a side and what that depends on around it."""
        margin = 2 * VAE_STRIDE_SPACE * self.config.vae.reach
        sides = (
            [min(side, -(-side // count) + margin) for side in size] for size in buckets.values()
        )
        return max(height * width for height, width in sides)

    @cached_property
    def _shapes(self) -> Mapping[str, Shapes]:
        return {name: original_shapes(name, getattr(self.config, name)) for name in COMPONENTS}

    def _frames(self, resolution: str) -> int:
        return self.preset.window * largest(self.preset.buckets[resolution]) * 3 * _FLOAT32

    def _token_values(self, resolution: str) -> int:
        """One value of the transformer's width for every token of a window."""
        transformer = self.config.transformer
        _, rows, columns = transformer.patch
        patch = VAE_STRIDE_SPACE**2 * rows * columns
        tokens = self._latent_frames * largest(self.preset.buckets[resolution]) // patch
        return int(tokens * transformer.dim * self.arithmetic.itemsize)

    def _keys(self) -> int:
        """Keys and values of both prompts, the picture, the voices and silence, in every block."""
        transformer, image = self.config.transformer, self.config.image_encoder
        picture = 1 + (image.image_size // image.patch) ** 2
        audio = self._latent_frames * transformer.audio_tokens * (SPEAKERS + 1)
        tokens = 2 * transformer.text_tokens + picture + audio
        width = 2 * transformer.dim * transformer.layers
        return int(tokens * width * self.arithmetic.itemsize)

    @property
    def _latent_frames(self) -> int:
        return 1 + (self.preset.window - 1) // VAE_STRIDE_TIME


def original_shapes(name: str, config: object) -> Shapes:
    """The tensors of a network as its original file has them."""
    tensors = to_original(name, config, build(name, config, "meta").state_dict())
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def tensor_bytes(
    name: str,
    shapes: Shapes,
    dtype: torch.dtype,
    device: torch.device,
    *,
    is_fp8: bool = False,
) -> int:
    """Size of a network's tensors; in fp8 a byte a quantised value, and a scale for each row."""

    def sizes() -> Iterator[int]:
        for key, shape in shapes.items():
            is_quantised = is_fp8 and is_quantized(key, name)
            yield prod(shape) * (1 if is_quantised else dtype.itemsize)
            yield shape[0] * _FLOAT32 if is_quantised else 0

    return sum(map(_allocated, sizes()) if device.type == "cuda" else sizes())


def _allocated(size: int) -> int:
    """What torch takes on a GPU for a tensor of so many bytes: large ones are rounded up."""
    return size if size < _LARGE else -(-size // _STEP) * _STEP


def largest(buckets: BucketTable) -> int:
    """Pixels of the largest picture of a resolution."""
    return max(height * width for height, width in buckets.values())
