"""Colour matching: every frame takes the Lab mean and deviation of a reference picture.

Reinhard et al. 2001, in CIE L*a*b* (D65, 2 degrees). Keeps the colours of a long video from
drifting, on the device the frames are on and a few at a time: a frame is matched by itself.

Axes: f frames, h w size; channels first, RGB in [-1, 1], float32.
"""

import torch
from torch import Tensor

# Linear sRGB to XYZ (IEC 61966-2-1) and its white.
_XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_LINEAR_BELOW = 0.008856  # CIE: below this the cube root is replaced by a line

AT_ONCE = 8  # frames: enough to keep a GPU busy, little beside a window


def match_color(frames: Tensor, reference: Tensor, strength: float) -> Tensor:
    """Blend frames with their colour-matched version.

    Args:
        frames: 3 f h w.
        reference: 3 h w.
        strength: 0 keeps the frames, 1 takes the matched ones.

    A frame's channel without any variation becomes the reference's mean.
    """
    if strength == 0:
        return frames
    goal = _statistics(_lab_from_rgb(_unit(reference[:, None])))
    blended = torch.empty_like(frames)
    for few, target in zip(frames.split(AT_ONCE, 1), blended.split(AT_ONCE, 1), strict=True):
        source = _unit(few)
        matched = _rgb_from_lab(_transfer(_lab_from_rgb(source), goal))
        target.copy_(((1 - strength) * source + strength * matched) * 2 - 1)
    return blended


def _unit(pixels: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return ((pixels + 1) / 2).clamp(0, 1)


def _transfer(source: Tensor, goal: tuple[Tensor, Tensor]) -> Tensor:
    """3 f h w in Lab to a mean and deviation; population statistics per frame and channel."""
    mean, std = _statistics(source)
    goal_mean, goal_std = goal
    scaled = (source - mean) / torch.where(std == 0, 1.0, std) * goal_std + goal_mean
    return torch.where(std == 0, goal_mean.expand_as(source), scaled)


def _statistics(lab: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(lab, dim=(-2, -1), correction=0, keepdim=True)
    # rounding leaves a flat channel a deviation of its own; only exactly equal pixels are flat
    is_flat = lab.amax((-2, -1), keepdim=True) == lab.amin((-2, -1), keepdim=True)
    return mean, torch.where(is_flat, 0.0, std)


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,j...->i...", matrix, channels)


def _white(like: Tensor) -> Tensor:
    return like.new_tensor(_WHITE).view(3, 1, 1, 1)


def _lab_from_rgb(rgb: Tensor) -> Tensor:
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(rgb.new_tensor(_XYZ_FROM_RGB), linear) / _white(rgb)
    x, y, z = torch.where(
        xyz > _LINEAR_BELOW, xyz.clamp(min=1e-12) ** (1 / 3), 7.787 * xyz + 16 / 116
    )
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def _rgb_from_lab(lab: Tensor) -> Tensor:
    lightness, a, b = lab
    y = (lightness + 16) / 116
    xyz = torch.stack((y + a / 500, y, (y - b / 200).clamp(min=0)))
    xyz = torch.where(xyz > 0.2068966, xyz**3, (xyz - 16 / 116) / 7.787) * _white(lab)
    inverse = torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB).double())
    linear = _mix(inverse.to(lab), xyz)
    curved = 1.055 * linear.clamp(min=1e-12) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, linear * 12.92).clamp(0, 1)
