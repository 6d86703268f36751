"""The InfiniteTalk transformer: Wan2.1-I2V's video DiT with an audio attention in every block.

Parameters carry the original checkpoint's names, but query, key and value of the self-attention are
one layer, `qkv`. What does not change over the denoising steps (keys and values of text, image and
audio, the rotary table, the condition latent) is computed once into a `Conditioning`; a forward
then only reads it.

Follows Wan (arXiv 2503.20314), MultiTalk (arXiv 2505.22647) for the audio attention and the routing
of two voices, and InfiniteTalk (arXiv 2508.14033) for the conditioning.

Precision: parameters and tokens are in the model's dtype; time path, modulation, LayerNorms, gated
residuals, rotary embedding and head are computed in float32 whatever that dtype is.

Axes: b batch, c channels, t latent frames, h w latent size, n tokens, s tokens of one frame,
d width, p persons, f video frames, w window entries, l encoder layers or text tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from infinitetalk.models.attention import Attention, RotaryTable, rotary_grid
from infinitetalk.models.audio_projection import AudioProjection
from infinitetalk.models.block import Block, Keys
from infinitetalk.models.compiled import Compiler, RunBlock, compiled, run_block
from infinitetalk.models.row_choice import best_row_ops
from infinitetalk.models.row_ops import RowOps, layer_norm
from infinitetalk.models.transformer_config import TransformerConfig


class TimeEmbedding(NamedTuple):
    """Timestep features in float32: `head` b d for the head, `blocks` b 6 d for the blocks."""

    head: Tensor
    blocks: Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """All a forward reads besides the noisy latent and the timestep."""

    latent: Tensor  # b 20 t h w: 4 mask channels, 16 channels of the encoded condition frame
    rotary: RotaryTable
    text: Keys
    image: Keys
    audio: Keys  # batch axis is b*t: each latent frame has its own audio
    regions: Tensor | None = None  # 3 s: person 1, person 2, background; None with one voice


def linear32(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer computed in float32 whatever dtype it is stored in."""
    return F.linear(x.float(), layer.weight.float(), layer.bias.float())


def timestep_features(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids of fractional timesteps: b -> b dim, cosines first, in float32."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timesteps.device) / half
    angles = torch.outer(timesteps.double(), torch.pow(10000.0, -exponents))
    return torch.cat((angles.cos(), angles.sin()), dim=1).float()


class Head(nn.Module):
    """Tokens to patches, in float32."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.eps
        pixels = config.patch[0] * config.patch[1] * config.patch[2] * config.out_channels
        self.head = nn.Linear(config.dim, pixels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.modulation.float() + time[:, None]).unsqueeze(2).unbind(1)
        return linear32(layer_norm(x, self.eps) * (1 + scale) + shift, self.head)


class ImageEmbedding(nn.Module):
    """CLIP tokens to the width of the model (checkpoint names `img_emb.proj.*`)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(config.image_dim, eps=1e-5),
            nn.Linear(config.image_dim, config.image_dim),
            nn.GELU(),
            nn.Linear(config.image_dim, config.dim),
            nn.LayerNorm(config.dim, eps=1e-5),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *middle, last = self.proj
        assert isinstance(first, nn.LayerNorm) and isinstance(last, nn.LayerNorm)
        y = layer_norm(x, first.eps, first).to(x.dtype)
        for layer in middle:
            y = layer(y)
        return layer_norm(y, last.eps, last).to(x.dtype)


class InfiniteTalkTransformer(nn.Module):
    """The velocity network of InfiniteTalk."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.in_channels, dim, config.patch, config.patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.img_emb = ImageEmbedding(config)
        self.audio_proj = AudioProjection(
            config.audio_window,
            config.vae_stride,
            config.audio_layers,
            config.audio_dim,
            config.audio_hidden,
            config.audio_tokens,
            config.audio_token_dim,
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)
        self._run_block: RunBlock = run_block

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_embedding.weight.dtype

    # -- once per process ------------------------------------------------------------------------

    def compile_blocks(self, compiler: Compiler = "inductor", ops: RowOps | None = None) -> None:
        """Run the blocks as compiled graphs from now on, of `ops` or the best for this device."""
        ops = best_row_ops(self._blocks()[0]) if ops is None else ops
        self._run_block = compiled(compiler, ops)

    def run_eagerly(self) -> None:
        """Run the blocks as they are written; how it begins."""
        self._run_block = run_block

    def warm_up(
        self, latent: Sequence[int], image_tokens: int, voices: int, attention: Attention
    ) -> None:
        """Run one block on a latent of size (t, h, w), so that what it takes is compiled."""
        config, block = self.config, self._blocks()[0]
        device = self.patch_embedding.weight.device
        grid = self.token_grid(latent)
        frames, tokens = grid[0], grid[0] * grid[1] * grid[2]

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(1, *shape, dtype=self.dtype, device=device)

        speech = zeros(voices, frames, config.audio_tokens, config.audio_token_dim)
        self._run_block(
            block,
            zeros(tokens, config.dim),
            zeros(6, config.dim).float(),
            self.rotary(latent),
            block.cross_attn.text_keys(zeros(config.text_tokens, config.dim)),
            block.cross_attn.image_keys(zeros(image_tokens, config.dim)),
            block.audio_cross_attn.audio_keys(speech),
            None if voices == 1 else torch.zeros(3, tokens // frames, device=device),
            attention,
        )

    # -- once per job or window -----------------------------------------------------------------

    def rotary(self, latent: Sequence[int]) -> RotaryTable:
        """Rotary table of a latent of size (t, h, w)."""
        device = self.patch_embedding.weight.device
        return rotary_grid(self.token_grid(latent), self.config.head_dim, device)

    def token_grid(self, latent: Sequence[int]) -> tuple[int, int, int]:
        """Tokens along time, rows and columns of a latent of size (t, h, w)."""
        t, h, w = (size // patch for size, patch in zip(latent, self.config.patch, strict=True))
        return t, h, w

    def text_keys(self, context: Tensor) -> Keys:
        """Encoded text b l c, zero-padded to the text length; padding is attended, as trained."""
        missing = self.config.text_tokens - context.shape[1]
        context = self.text_embedding(F.pad(context.to(self.dtype), (0, 0, 0, missing)))
        return tuple(block.cross_attn.text_keys(context) for block in self._blocks())

    def image_keys(self, features: Tensor) -> Keys:
        """CLIP tokens b m c."""
        context = self.img_emb(features.to(self.dtype))
        return tuple(block.cross_attn.image_keys(context) for block in self._blocks())

    def audio_keys(self, windows: Tensor) -> Keys:
        """Speech windows b p f w l c of one or two persons."""
        batch = windows.shape[0]
        tokens = self.audio_proj(windows.flatten(0, 1).to(self.dtype))
        tokens = tokens.unflatten(0, (batch, -1))
        return tuple(block.audio_cross_attn.audio_keys(tokens) for block in self._blocks())

    # -- every step -----------------------------------------------------------------------------

    def forward(
        self, latent: Tensor, timesteps: Tensor, conditioning: Conditioning, attention: Attention
    ) -> Tensor:
        """Negative velocity for latents b c t h w at timesteps b in [0, 1000]."""
        time = self.embed_time(timesteps)
        tokens = self.embed(latent, conditioning.latent)
        tokens = self.run_blocks(tokens, time.blocks, conditioning, attention)
        return self.unembed(tokens, time.head, latent.shape[2:])

    def embed_time(self, timesteps: Tensor) -> TimeEmbedding:
        """Timesteps b to modulation, in float32."""
        first, _, second = self.time_embedding
        features = timestep_features(timesteps, self.config.freq_dim)
        head = linear32(F.silu(linear32(features, first)), second)  # type: ignore[arg-type]
        blocks = linear32(F.silu(head), self.time_projection[1])  # type: ignore[arg-type]
        return TimeEmbedding(head, blocks.unflatten(1, (6, -1)))

    def embed(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Noisy latent and condition latent to tokens b n d."""
        x = torch.cat((latent, condition.to(latent.dtype)), dim=1).to(self.dtype)
        patches = self.patch_embedding(x).flatten(2)
        return patches.transpose(1, 2).contiguous()  # the blocks would keep whatever layout it has

    def run_blocks(
        self, tokens: Tensor, time: Tensor, conditioning: Conditioning, attention: Attention
    ) -> Tensor:
        """All blocks: b n d -> b n d."""
        c, run = conditioning, self._run_block
        for i, block in enumerate(self._blocks()):
            keys = c.text[i], c.image[i], c.audio[i]
            tokens = run(block, tokens, time, c.rotary, *keys, c.regions, attention)
        return tokens

    def unembed(self, tokens: Tensor, time: Tensor, latent: Sequence[int]) -> Tensor:
        """Tokens to a prediction of the latent's size (t, h, w), in float32."""
        _, h, w = self.token_grid(latent)
        _, p, q = self.config.patch
        patches = self.head(tokens, time)
        return rearrange(patches, "b (t h w) (p q c) -> b c t (h p) (w q)", h=h, w=w, p=p, q=q)

    def _blocks(self) -> Sequence[Block]:
        return self.blocks  # type: ignore[return-value]
