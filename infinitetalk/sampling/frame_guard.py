"""Whether decoded frames are a picture at all: what broken kernels leave behind is not.

It knows values that are not finite, and frames of one flat colour. Whether a picture is a good one
is not asked.

Axes: c channels, f video frames, h w size.
"""

import torch
from torch import Tensor


def are_intact(frames: Tensor) -> bool:
    """Whether every frame (c f h w) is finite and has more than one colour; waits for the device.

    One bad frame is enough: the next window starts from the last ones, and would repeat it.
    """
    pixels = frames.flatten(2)
    low, high = pixels.amin(2), pixels.amax(2)  # c f; a NaN is both
    is_finite = torch.isfinite(low) & torch.isfinite(high)
    is_varied = (low < high).any(0)
    return bool(is_finite.all() & is_varied.all())
