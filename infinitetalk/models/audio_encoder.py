"""Speech to one embedding per video frame: wav2vec2 with its features resampled to 25 a second.

Axes: s audio samples at 16 kHz, f video frames, l encoder layers, c channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

SAMPLE_RATE = 16000
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)  # wav2vec2-base
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class AudioEncoderConfig:
    """Sizes of the speech encoder; the defaults are wav2vec2-base's."""

    dim: int = 768
    conv_dim: int = 512
    layers: int = 12
    heads: int = 12
    ffn_dim: int = 3072
    position_kernel: int = 128
    position_groups: int = 16


def reference_frames(samples: int) -> int:
    """Video frames the original makes of this many samples.

    Its floating-point expression is kept: 36480 samples give 56, although 57 is exact.
    """
    return int(samples / SAMPLE_RATE * 25)


class _ResampledFeatures(nn.Module):
    """wav2vec2's convolutions, then linear interpolation to the wanted number of frames."""

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.frames = 0

    def forward(self, wave: Tensor) -> Tensor:
        features = self.convolutions(wave)
        return F.interpolate(features, self.frames, mode="linear", align_corners=True)


class AudioEncoder(nn.Module):
    """The 12 hidden states of wav2vec2 for every video frame."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=config.dim,
                conv_dim=(config.conv_dim,) * 7,
                conv_kernel=CONV_KERNEL,
                conv_stride=CONV_STRIDE,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.ffn_dim,
                num_conv_pos_embeddings=config.position_kernel,
                num_conv_pos_embedding_groups=config.position_groups,
                apply_spec_augment=False,
                mask_time_prob=0.0,
                layerdrop=0.0,
            )
        )
        # the frame count has to reach the middle of the library's forward
        self.net.feature_extractor = _ResampledFeatures(self.net.feature_extractor)

    def forward(self, wave: Tensor, frames: int) -> Tensor:
        """Normalised samples s to embeddings f l c; the state before the first layer is dropped."""
        self.net.feature_extractor.frames = frames
        states = self.net(wave[None].to(next(self.parameters()).dtype), output_hidden_states=True)
        return torch.stack(states.hidden_states[1:], dim=2)[0]
