"""The InfiniteTalk transformer: Wan2.1-I2V's video DiT with an audio attention in every block.

Parameters carry the original checkpoint's names. What does not change over the denoising steps
(keys and values of text, image and audio, the rotary table, the condition latent) is computed once
into a `Conditioning`; a forward then only reads it.

Follows Wan (arXiv 2503.20314), MultiTalk (arXiv 2505.22647) for the audio attention and the routing
of two voices, and InfiniteTalk (arXiv 2508.14033) for the conditioning.

Precision: parameters and tokens are in the model's dtype; time path, modulation, LayerNorms, gated
residuals, rotary embedding and head are computed in float32 whatever that dtype is.

Axes: b batch, c channels, t latent frames, h w latent size, n tokens, s tokens of one frame,
d width, p persons, k audio tokens of one latent frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from infinitetalk.models.attention import (
    Attention,
    RotaryTable,
    rotary_grid,
    rotary_table,
    rotate,
    sdpa,
)
from infinitetalk.models.audio_projection import AudioProjection

SPEAKER_SPAN = 4.0  # rotary positions of a speaker's pixels: 4 wide,
SPEAKER_STARTS = (0.0, 20.0)  # one speaker from 0, the other from 20,
BACKGROUND_POSITION = 12.0  # everything else between the two;
SPEAKER_KEY_POSITIONS = (2.0, 22.0)  # the voices sit in the middle of their speaker's range.


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


class KeyValue(NamedTuple):
    """Keys and values of one attention, each b m h d."""

    k: Tensor
    v: Tensor


Keys = tuple[KeyValue, ...]
"""One `KeyValue` for every block."""


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


def layer_norm(x: Tensor, eps: float, affine: nn.LayerNorm | None = None) -> Tensor:
    """LayerNorm over the last axis in float32; returns float32."""
    if affine is None:
        return F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return F.layer_norm(x.float(), x.shape[-1:], affine.weight.float(), affine.bias.float(), eps)


def linear32(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer computed in float32 whatever dtype it is stored in."""
    return F.linear(x.float(), layer.weight.float(), layer.bias.float())


def timestep_features(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids of fractional timesteps: b -> b dim, cosines first, in float32."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timesteps.device) / half
    angles = torch.outer(timesteps.double(), torch.pow(10000.0, -exponents))
    return torch.cat((angles.cos(), angles.sin()), dim=1).float()


class RMSNorm(nn.Module):
    """Root-mean-square norm over the whole width, float32 inside, scaled in the input's dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return y.to(x.dtype) * self.weight


class SelfAttention(nn.Module):
    """Attention of all tokens to all tokens with 3-D rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps)
        self.norm_k = RMSNorm(dim, config.eps)

    def forward(
        self, x: Tensor, rotary: RotaryTable, attention: Attention, regions: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """b n d -> b n d, and the region map b 3 n when regions are given."""
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x)
        q, k, v = (y.unflatten(-1, (self.heads, -1)) for y in (q, k, v))
        q, k = rotate(q, rotary), rotate(k, rotary)
        out = self.o(attention(q, k, v).flatten(2))
        return out, None if regions is None else region_map(q, k, regions)


def region_map(q: Tensor, k: Tensor, regions: Tensor) -> Tensor:
    """How much each token looks at each region of the first frame: b n h d -> b 3 n.

    The map is itself an attention whose values are the regions' normalised masks (3 columns, padded
    to the head dimension), so no n x s matrix is ever stored.

    Args:
        q, k: rotated queries and keys of the self-attention.
        regions: 3 s, ones inside the region.
    """
    s = regions.shape[1]
    weights = (regions / regions.sum(1, keepdim=True)).t()  # s 3
    values = F.pad(weights, (0, q.shape[-1] - weights.shape[1])).to(q.dtype)
    values = values[None, :, None].expand(k.shape[0], s, k.shape[2], -1)
    looks = sdpa(q, k[:, :s], values)[..., :3]
    return looks.float().mean(2).transpose(1, 2)


def speaker_positions(looks: Tensor) -> Tensor:
    """Rotary position of every token by the speaker it belongs to: b 3 n -> b n.

    A token takes the region it looks at most; within a speaker's range it moves with how strongly
    it looks (MultiTalk, label rotary position embedding).
    """
    low, high = looks.amin(-1, keepdim=True), looks.amax(-1, keepdim=True)
    strength = (looks - low) / (high - low + 1e-8) * SPEAKER_SPAN
    first, second = (strength[:, i] + SPEAKER_STARTS[i] for i in (0, 1))
    region = looks.argmax(1)
    background = torch.full_like(first, BACKGROUND_POSITION)
    return torch.where(region == 0, first, torch.where(region == 1, second, background))


class CrossAttention(nn.Module):
    """Attention to the text and, separately, to the image; their outputs are added."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps)
        self.norm_k = RMSNorm(dim, config.eps)
        self.k_img = nn.Linear(dim, dim)
        self.v_img = nn.Linear(dim, dim)
        self.norm_k_img = RMSNorm(dim, config.eps)

    def text_keys(self, context: Tensor) -> KeyValue:
        return self._split(self.norm_k(self.k(context)), self.v(context))

    def image_keys(self, context: Tensor) -> KeyValue:
        return self._split(self.norm_k_img(self.k_img(context)), self.v_img(context))

    def forward(self, x: Tensor, text: KeyValue, image: KeyValue) -> Tensor:
        q = self.norm_q(self.q(x)).unflatten(-1, (self.heads, -1))
        return self.o((sdpa(q, *image) + sdpa(q, *text)).flatten(2))

    def _split(self, k: Tensor, v: Tensor) -> KeyValue:
        return KeyValue(k.unflatten(-1, (self.heads, -1)), v.unflatten(-1, (self.heads, -1)))


class AudioCrossAttention(nn.Module):
    """Attention of the tokens of a latent frame to the audio tokens of that frame."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_linear = nn.Linear(config.dim, config.dim)
        self.kv_linear = nn.Linear(config.audio_token_dim, 2 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def audio_keys(self, tokens: Tensor) -> KeyValue:
        """b p t k c -> keys of every frame, (b t) (p k) h d; two voices at their own positions."""
        persons, count = tokens.shape[1], tokens.shape[3]
        tokens = rearrange(tokens, "b p t k c -> (b t) (p k) c")
        k, v = self.kv_linear(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)
        if persons == 2:
            positions = k.new_tensor(SPEAKER_KEY_POSITIONS).repeat_interleave(count)
            k = rotate(k, rotary_table(positions, k.shape[-1] // 2))
        return KeyValue(k, v)

    def forward(self, x: Tensor, audio: KeyValue, positions: Tensor | None) -> Tensor:
        """x: b n d; positions: b n when two voices are told apart, else None."""
        q = self.q_linear(x).unflatten(-1, (self.heads, -1))
        if positions is not None:
            q = rotate(q, rotary_table(positions, q.shape[-1] // 2))
        frames = audio.k.shape[0] // x.shape[0]
        out = sdpa(rearrange(q, "b (t s) h d -> (b t) s h d", t=frames), *audio)
        return self.proj(rearrange(out, "(b t) s h d -> b (t s) (h d)", t=frames))


class Block(nn.Module):
    """Self-attention, text and image attention, audio attention, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.eps = config.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.self_attn = SelfAttention(config)
        self.norm3 = nn.LayerNorm(dim, eps=config.eps)
        self.cross_attn = CrossAttention(config)
        self.norm_x = nn.LayerNorm(dim, eps=config.eps)
        self.audio_cross_attn = AudioCrossAttention(config)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU("tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        rotary: RotaryTable,
        text: KeyValue,
        image: KeyValue,
        audio: KeyValue,
        regions: Tensor | None,
        attention: Attention,
    ) -> Tensor:
        """x: b n d, time: b 6 d (float32) -> b n d."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            (self.modulation.float() + time).unsqueeze(2).unbind(1)
        )
        h = (layer_norm(x, self.eps) * (1 + scale) + shift).to(x.dtype)
        y, looks = self.self_attn(h, rotary, attention, regions)
        x = (x.float() + y.float() * gate).to(x.dtype)
        x = x + self.cross_attn(layer_norm(x, self.eps, self.norm3).to(x.dtype), text, image)
        positions = None if looks is None else speaker_positions(looks)
        h = layer_norm(x, self.eps, self.norm_x).to(x.dtype)
        x = x + self.audio_cross_attn(h, audio, positions)
        h = (layer_norm(x, self.eps) * (1 + ffn_scale) + ffn_shift).to(x.dtype)
        return (x.float() + self.ffn(h).float() * ffn_gate).to(x.dtype)


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

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_embedding.weight.dtype

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
        return self.patch_embedding(x).flatten(2).transpose(1, 2)

    def run_blocks(
        self, tokens: Tensor, time: Tensor, conditioning: Conditioning, attention: Attention
    ) -> Tensor:
        """All blocks: b n d -> b n d."""
        c = conditioning
        for i, block in enumerate(self._blocks()):
            tokens = block(
                tokens, time, c.rotary, c.text[i], c.image[i], c.audio[i], c.regions, attention
            )
        return tokens

    def unembed(self, tokens: Tensor, time: Tensor, latent: Sequence[int]) -> Tensor:
        """Tokens to a prediction of the latent's size (t, h, w), in float32."""
        _, h, w = self.token_grid(latent)
        _, p, q = self.config.patch
        patches = self.head(tokens, time)
        return rearrange(patches, "b (t h w) (p q c) -> b c t (h p) (w q)", h=h, w=w, p=p, q=q)

    def _blocks(self) -> Sequence[Block]:
        return self.blocks  # type: ignore[return-value]
