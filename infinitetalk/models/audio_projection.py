"""From windows of speech embedding to the audio tokens that every latent frame attends to.

The video VAE packs 4 frames into one latent frame (the first frame stands alone), so the audio
windows of 4 frames are merged likewise: overlapping entries are dropped, 8 distinct ones remain.

Axes: p persons (or batch), f video frames, t latent frames, w window entries, l encoder layers,
c channels, k tokens of one latent frame.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def group_windows(audio: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Split per-frame windows by latent frame.

    Args:
        audio: p f w l c, with f = 1 + stride * (t - 1).
        stride: video frames in a latent frame.

    Returns:
        p 1 w l c for the first frame and p t-1 w+stride-1 l c for the groups: of a group, the first
        frame gives its entries up to the middle one, the last its entries from the middle one on,
        those between only their middle entry.
    """
    middle = audio.shape[2] // 2
    groups = rearrange(audio[:, 1:], "p (t s) w l c -> p t s w l c", s=stride)
    opening = groups[:, :, 0, : middle + 1]
    between = groups[:, :, 1:-1, middle]
    closing = groups[:, :, -1, middle:]
    return audio[:, :1], torch.cat((opening, between, closing), dim=2)


class AudioProjection(nn.Module):
    """Speech windows to audio tokens (checkpoint names `audio_proj.*`)."""

    def __init__(
        self,
        window: int,
        stride: int,
        layers: int,
        channels: int,
        hidden: int,
        tokens: int,
        dim: int,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.tokens = tokens
        entry = layers * channels
        self.proj1 = nn.Linear(window * entry, hidden)
        self.proj1_vf = nn.Linear((window + stride - 1) * entry, hidden)
        self.proj2 = nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, tokens * dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, audio: Tensor) -> Tensor:
        """p f w l c -> p t k dim."""
        first, later = (x.flatten(2) for x in group_windows(audio, self.stride))
        hidden = torch.cat((F.relu(self.proj1(first)), F.relu(self.proj1_vf(later))), dim=1)
        tokens = self.proj3(F.relu(self.proj2(hidden)))
        tokens = rearrange(tokens, "p t (k d) -> p t k d", k=self.tokens)
        norm = self.norm
        out = F.layer_norm(
            tokens.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps
        )
        return out.to(tokens.dtype)
