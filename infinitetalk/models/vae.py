"""The causal video VAE of Wan: frames to latents and back, one latent frame at a time.

The weights are in diffusers' `AutoencoderKLWan`, its layers run as vae_layers.py has it; here are
the normalisation of latents, and the way through a clip piece by piece and tile by tile.

Axes: b batch, c channels, f video frames (1 + 4 (t-1)), t latent frames, h w size. Pixels [-1, 1].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import EllipsisType

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from infinitetalk.models.vae_layers import decode_local, decode_whole, encode_piece
from infinitetalk.models.vae_stream import Stream

Index = tuple[EllipsisType | slice, ...]

# Mean and deviation of each of the 16 latent channels over Wan's training data (Wan2.1 release).
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Sizes of the video VAE; the defaults are Wan2.1's."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = LATENT_MEAN
    std: tuple[float, ...] = LATENT_STD

    @property
    def reach(self) -> int:
        """Latent pixels around its own that a pixel depends on in the local part of the decoder."""
        pixels = 1  # of the last convolution; all are 3 x 3
        for _ in self.dim_mult[1:]:  # a block at twice the size of the one before it
            pixels += 2 * (self.num_res_blocks + 1) + 1  # and its upsampler
            pixels = (pixels + 1) // 2
        return pixels


class VideoVAE(nn.Module):
    """Frames to normalised latents and back."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.tiles = 1  # rows and columns in which pictures are decoded; see `decode`
        self._is_fused = False
        self.net = AutoencoderKLWan(
            base_dim=config.dim,
            z_dim=config.z_dim,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.num_res_blocks,
            attn_scales=[],
            temperal_downsample=list(config.temporal_downsample),
            latents_mean=list(config.mean),
            latents_std=list(config.std),
        )

    @property
    def dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype

    def fuse(self) -> None:
        """Run norms and sums as kernels of ours from now on, and compile them; in float16 on a GPU.

        What a compiler or driver raises means that it runs as before.
        """
        self._is_fused = True
        try:
            device = next(self.net.parameters()).device
            self.decode(torch.zeros(1, self.config.z_dim, 2, 8, 8, device=device))
            self.encode(torch.zeros(1, 3, 5, 64, 64, device=device))
        except Exception:
            self._is_fused = False
            raise

    def encode(self, frames: Tensor) -> Tensor:
        """b c f h w -> b 16 t h/8 w/8 in float32: the posterior's mean, normalised; no sampling.

        Frames past the last full group of 4 are ignored, as in the original.
        """
        stream = Stream(self._is_fused)
        groups = [1] + [4] * ((frames.shape[2] - 1) // 4)
        clips = frames[:, :, : sum(groups)].split(groups, dim=2)
        pieces = [encode_piece(self.net, self._laid_out(clip), stream) for clip in clips]
        mean, std = self._statistics(frames.device)
        return (torch.cat(pieces, dim=2)[:, : self.config.z_dim].float() - mean) / std

    def decode(self, latent: Tensor, on_piece: Callable[[], None] = lambda: None) -> Tensor:
        """b 16 t h w -> b 3 f 8h 8w in float32, clamped to [-1, 1].

        Where memory is little it is done tile after tile, each with all that its pixels depend on:
        there are no seams.

        Args:
            on_piece: called before a few frames are decoded; what it raises ends the decode.
        """
        b, _, t, h, w = latent.shape
        pixels = latent.new_empty((b, 3, 4 * t - 3, 8 * h, 8 * w), dtype=torch.float32)
        whole = list(self._decode_whole(latent, on_piece))
        for tile in _tiles(h, w, self.tiles, self.config.reach):
            stream = Stream(self._is_fused)
            done = 0
            for x in whole:
                on_piece()
                piece = decode_local(self.net, x[tile.read], stream, is_first=done == 0)
                target = pixels[:, :, done : done + piece.shape[2]]
                target[tile.written] = piece[tile.kept].float().clamp(-1, 1)
                done += piece.shape[2]
        return pixels

    def _decode_whole(self, latent: Tensor, on_piece: Callable[[], None]) -> Iterator[Tensor]:
        """What is small and needs the whole picture, one latent frame after another."""
        mean, std = self._statistics(latent.device)
        stream = Stream(self._is_fused)
        for frame in (latent.float() * std + mean).split(1, dim=2):
            on_piece()
            yield decode_whole(self.net, self._laid_out(frame), stream)

    def _laid_out(self, x: Tensor) -> Tensor:
        """In the arithmetic of the network, channels last for the kernels."""
        layout = torch.channels_last_3d if self._is_fused else torch.contiguous_format
        return x.to(self.dtype).contiguous(memory_format=layout)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(x, device=device) for x in (self.config.mean, self.config.std))
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A part of a picture, as indices of b c t h w."""

    read: Index  # of what is decoded: the part and what it depends on
    kept: Index  # the part in the pixels that come out of that
    written: Index  # the part in the picture


def _tiles(height: int, width: int, count: int, margin: int) -> Iterator[_Tile]:
    """`count` rows and columns of tiles; sizes and margin in latent pixels."""
    for rows in _spans(height, count, margin):
        for columns in _spans(width, count, margin):
            yield _Tile(*((..., *index) for index in zip(rows, columns, strict=True)))


def _spans(size: int, count: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    """Those of one axis: `read` in latent pixels, `kept` and `written` in pixels."""
    for i in range(count):
        start, end = i * size // count, (i + 1) * size // count
        low, high = max(0, start - margin), min(size, end + margin)
        if start < end:
            kept = slice(8 * (start - low), 8 * (end - low))
            yield slice(low, high), kept, slice(8 * start, 8 * end)
