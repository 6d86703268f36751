"""The causal video VAE of Wan: frames to latents and back, one latent frame at a time.

The network is diffusers' `AutoencoderKLWan`; here are the normalisation of its latents and a
streaming decode whose feature cache belongs to the stream, not to the module.

Axes: b batch, c channels, f video frames (1 + 4 (t-1)), t latent frames, h w size. Pixels [-1, 1].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

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


class VideoVAE(nn.Module):
    """Frames to normalised latents and back."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
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

    def encode(self, frames: Tensor) -> Tensor:
        """b c f h w -> b 16 t h/8 w/8 in float32: the posterior's mean, normalised; no sampling.

        Frames past the last full group of 4 are ignored, as in the original.
        """
        posterior = self.net.encode(frames.to(self.dtype)).latent_dist
        mean, std = self._statistics(frames.device)
        return (posterior.mode().float() - mean) / std

    def decode(self, latent: Tensor) -> Tensor:
        """b 16 t h w -> b 3 f 8h 8w in float32, clamped to [-1, 1]."""
        return torch.cat(list(self.decode_stream(latent)), dim=2)

    def decode_stream(self, latent: Tensor) -> Iterator[Tensor]:
        """Decode one latent frame at a time: 1 frame, then 4 at a time; exact to `decode`.

        Only the frames just decoded and the causal cache are held.
        """
        mean, std = self._statistics(latent.device)
        z = self.net.post_quant_conv((latent.float() * std + mean).to(self.dtype))
        cache: list[Tensor | None] = [None] * self.net._cached_conv_counts["decoder"]
        for i in range(z.shape[2]):
            frames = self.net.decoder(
                z[:, :, i : i + 1], feat_cache=cache, feat_idx=[0], first_chunk=i == 0
            )
            yield frames.float().clamp(-1, 1)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(x, device=device) for x in (self.config.mean, self.config.std))
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)
