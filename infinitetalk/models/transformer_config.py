"""Sizes of the velocity network."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of the transformer; the defaults are the 14B model's."""

    dim: int = 5120
    ffn_dim: int = 13824
    heads: int = 40
    layers: int = 40
    in_channels: int = 36
    out_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    freq_dim: int = 256
    text_dim: int = 4096
    text_tokens: int = 512
    image_dim: int = 1280
    audio_window: int = 5
    audio_layers: int = 12
    audio_dim: int = 768
    audio_hidden: int = 512
    audio_token_dim: int = 768
    audio_tokens: int = 32
    vae_stride: int = 4
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads
