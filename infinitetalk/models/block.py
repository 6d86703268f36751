"""One block of the transformer: self-attention, text and image attention, audio attention, FFN.

Wan's block (arXiv 2503.20314) with MultiTalk's audio attention and its routing of two voices
(arXiv 2505.22647). Keys and values of text, image and audio come from outside, made once by the
`*_keys` methods.

Axes: b batch, n tokens, m key tokens, s tokens of the first frame, t latent frames, h heads,
d width (of a head where h stands beside it), p persons, k audio tokens of one latent frame.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from infinitetalk.models.attention import Attention, RotaryTable, rotary_table, rotate, sdpa
from infinitetalk.models.row_ops import PLAIN, Affine, Input, RMSNorm, RowOps, add_residual
from infinitetalk.models.transformer_config import TransformerConfig

SPEAKER_SPAN = 4.0  # rotary positions of a speaker's pixels: 4 wide,
SPEAKER_STARTS = (0.0, 20.0)  # one speaker from 0, the other from 20,
BACKGROUND_POSITION = 12.0  # everything else between the two;
SPEAKER_KEY_POSITIONS = (2.0, 22.0)  # the voices sit in the middle of their speaker's range.


class KeyValue(NamedTuple):
    """Keys and values of one attention, each b m h d."""

    k: Tensor
    v: Tensor


Keys = tuple[KeyValue, ...]
"""One `KeyValue` for every block."""


class SelfAttention(nn.Module):
    """Attention of all tokens to all tokens with 3-D rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps)
        self.norm_k = RMSNorm(dim, config.eps)

    def forward(
        self,
        x: Input,
        rotary: RotaryTable,
        attention: Attention,
        regions: Tensor | None,
        ops: RowOps = PLAIN,
    ) -> tuple[Tensor, Tensor | None]:
        """b n d -> b n d, and the region map b 3 n when regions are given."""
        qkv = self.qkv(x)
        v = qkv.chunk(3, -1)[2].unflatten(-1, (self.heads, -1))
        q, k = ops.rotary_heads(
            qkv, self.norm_q.weight, self.norm_k.weight, self.norm_q.eps, rotary
        )
        out = self.o(ops.add(attention(q, k, v).flatten(2), None, self.o))
        return out, None if regions is None else region_map(q, k, regions)


def region_map(q: Tensor, k: Tensor, regions: Tensor) -> Tensor:
    """How much each token looks at each region of the first frame: b n h d -> b 3 n.

    The map is itself an attention whose values are the regions' normalised masks (3 columns, padded
    to the head dimension), so no n x s matrix is ever stored.

    Args:
        q, k: rotated queries and keys of the self-attention.
        regions: 3 s, ones inside the region. An empty one is looked at by nobody.
    """
    s = regions.shape[1]
    weights = (regions / regions.sum(1, keepdim=True).clamp(min=1)).t()  # s 3
    values = F.pad(weights, (0, q.shape[-1] - weights.shape[1])).to(q.dtype)
    values = values[None, :, None].expand(k.shape[0], s, k.shape[2], -1)
    looks = sdpa(q, k[:, :s], values)[..., :3]
    return looks.float().mean(2).transpose(1, 2)


def speaker_positions(looks: Tensor) -> Tensor:
    """Rotary position of every token by the speaker it belongs to: b 3 n -> b n.

    A token takes the region it looks at most, by the raw looks; within a speaker's range it moves
    with how strongly it looks, by the looks scaled to [0, 1] over all tokens (MultiTalk, label
    rotary position embedding).
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

    def forward(self, x: Input, text: KeyValue, image: KeyValue, ops: RowOps = PLAIN) -> Tensor:
        q = self.norm_q(self.q(x)).unflatten(-1, (self.heads, -1))
        seen, read = sdpa(q, *image).flatten(2), sdpa(q, *text).flatten(2)
        return self.o(ops.add(seen, read, self.o))

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

    def forward(
        self, x: Input, audio: KeyValue, positions: Tensor | None, ops: RowOps = PLAIN
    ) -> Tensor:
        """x: b n d; positions: b n when two voices are told apart, else None."""
        q = self.q_linear(x).unflatten(-1, (self.heads, -1))
        if positions is not None:
            q = rotate(q, rotary_table(positions, q.shape[-1] // 2))
        frames = audio.k.shape[0] // q.shape[0]
        out = sdpa(rearrange(q, "b (t s) h d -> (b t) s h d", t=frames), *audio)
        out = rearrange(out, "(b t) s h d -> b (t s) (h d)", t=frames)
        return self.proj(ops.add(out, None, self.proj))


class FeedForward(nn.Sequential):
    """Two linear layers; GELU keeps the place between them that it has in the checkpoint."""

    def __init__(self, config: TransformerConfig) -> None:
        widen, narrow = (config.dim, config.ffn_dim), (config.ffn_dim, config.dim)
        super().__init__(nn.Linear(*widen), nn.Identity(), nn.Linear(*narrow))
        self.width = config.ffn_dim

    def forward(self, x: Input, ops: RowOps = PLAIN) -> Tensor:
        first, _, second = self
        return second(ops.gelu(first(x), second))


class Block(nn.Module):
    """Self-attention, text and image attention, audio attention, feed-forward.

    Names are the checkpoint's: norm3 comes before the text attention, norm_x before the audio's.
    """

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
        self.ffn = FeedForward(config)

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
        ops: RowOps = PLAIN,
    ) -> Tensor:
        """x: b n d, time: b 6 d (float32) -> b n d."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            (self.modulation.float() + time).unsqueeze(2).unbind(1)
        )
        h = ops.norm(x, Affine(1 + scale, shift, self.eps), self.self_attn.qkv)
        y, looks = self.self_attn(h, rotary, attention, regions, ops)
        x, h = ops.add_norm(x, y, gate, _affine(self.norm3), self.cross_attn.q)
        y = self.cross_attn(h, text, image, ops)
        x, h = ops.add_norm(x, y, None, _affine(self.norm_x), self.audio_cross_attn.q_linear)
        positions = None if looks is None else speaker_positions(looks)
        y = self.audio_cross_attn(h, audio, positions, ops)
        x, h = ops.add_norm(x, y, None, Affine(1 + ffn_scale, ffn_shift, self.eps), self.ffn[0])
        return add_residual(x, self.ffn(h, ops), ffn_gate)


def _affine(layer: nn.LayerNorm) -> Affine:
    return Affine(layer.weight, layer.bias, layer.eps)
