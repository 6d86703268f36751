"""The condition frame to image tokens: the vision tower of CLIP ViT-H/14.

The original takes the output of the last but one block. So the last block is never built, and what
is returned is the last hidden state; the final norm and the projection head are not used.

Axes: b batch, c channels, h w size, m tokens (class token first).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ImageEncoderConfig:
    """Sizes of the vision tower as in the file; the defaults are ViT-H/14's."""

    dim: int = 1280
    mlp_ratio: int = 4
    heads: int = 16
    layers: int = 32  # of which the last is not used
    patch: int = 14
    image_size: int = 224


class ImageEncoder(nn.Module):
    """CLIP vision tower without its last block."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.dim,
                intermediate_size=config.dim * config.mlp_ratio,
                num_hidden_layers=config.layers - 1,
                num_attention_heads=config.heads,
                patch_size=config.patch,
                image_size=config.image_size,
                hidden_act="gelu",
                layer_norm_eps=1e-5,
            )
        )
        tower = getattr(self.net, "vision_model", self.net)
        tower.post_layernorm = nn.Identity()
        # not in any file, so it must be real even when the module is built without memory
        tower.embeddings.position_ids = torch.arange(self.tokens, device="cpu")[None]

    @property
    def tokens(self) -> int:
        """Of a frame: its patches and the class token."""
        return (self.config.image_size // self.config.patch) ** 2 + 1

    def preprocess(self, frame: Tensor) -> Tensor:
        """Frame b 3 h w in [-1, 1], already cut to its bucket, to the tower's input.

        Squashed to a square by bicubic interpolation without antialiasing or clamping: that is what
        the transformer was trained with, and not what CLIP's own processor does.
        """
        side = (self.config.image_size, self.config.image_size)
        x = F.interpolate(frame.float(), side, mode="bicubic", align_corners=False)
        mean, std = (x.new_tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        return (x * 0.5 + 0.5 - mean) / std

    def forward(self, frame: Tensor) -> Tensor:
        """b 3 h w in [-1, 1] -> b m c."""
        pixels = self.preprocess(frame).to(next(self.parameters()).dtype)
        return self.net(pixel_values=pixels).last_hidden_state
