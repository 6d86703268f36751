"""A clip on its way through the VAE's layers, piece by piece.

A convolution in time sees the two frames before its own. What a piece leaves for the next is kept
here: by the stream, not by the module, so that streams do not disturb each other.

Axes: b batch, c channels, t frames at the layer's rate, h w size.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(slots=True)
class Stream:
    """What one clip has left in the convolutions so far."""

    is_fused: bool  # norms, SiLU and sums are kernels of ours, clips have their channels last
    past: dict[nn.Module, Tensor] = field(default_factory=dict)

    def before(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """The frames that a convolution sees before those of x: zeros at first."""
        found = self.past.get(convolution)
        if found is not None:
            return found
        b, c, _, h, w = x.shape
        return x.new_zeros(b, c, convolution.kernel_size[0] - 1, h, w)

    def remember(self, convolution: nn.Conv3d, clip: Tensor) -> None:
        """Keep what a convolution needs of the clip it has read for the next piece."""
        self.past[convolution] = clip[:, :, 1 - convolution.kernel_size[0] :].clone()
