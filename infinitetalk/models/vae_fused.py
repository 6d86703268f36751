"""Blocks of the VAE with kernels between the convolutions, for a GPU in float16.

Norm and SiLU are one kernel, which also adds the bias of the convolution before and writes behind
the past frames, where the next convolution reads. Sums are another. Both compute in float32, and
cut what is beyond float16 to its range instead of making infinities of it; what is not a number
stays so. The convolutions are cuDNN's, with channels last.

Axes: b batch, c channels, t frames at the layer's rate, h w size.
"""

import torch
import triton
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor
from torch.nn import functional as F

from infinitetalk.models import vae_kernels as kernels
from infinitetalk.models.vae_stream import Stream

WIDE = 128  # channels from which cuDNN's convolutions in time are fast
_TILE = 4096  # values of one program


def residual(block: WanResidualBlock, x: Tensor, shortcut: Tensor, stream: Stream) -> Tensor:
    y = normed(block.norm1, block.conv1, x, None, stream)
    y = normed(block.norm2, block.conv2, y, block.conv1.bias, stream)
    return add(y, block.conv2.bias, shortcut)


def normed(
    norm: WanRMS_norm, convolution: WanCausalConv3d, x: Tensor, bias: Tensor | None, stream: Stream
) -> Tensor:
    """A convolution, without its bias, over SiLU of the RMS norm of x, to which a bias is added."""
    before = stream.before(convolution, x)
    if convolution.out_channels < WIDE:
        clip = stacked(x, bias, norm.gamma, before)
        stream.past[convolution] = torch.cat(clip[:, :, -1:].chunk(3, 1)[1:], 2)
        return _convolve_pictures(clip, convolution.weight)
    clip = activated(x, bias, norm.gamma, before)
    stream.remember(convolution, clip)
    return F.conv3d(clip, convolution.weight, padding=(0, 1, 1))


def last(norm: WanRMS_norm, convolution: WanCausalConv3d, x: Tensor, stream: Stream) -> Tensor:
    """The convolution that ends a network, with its bias."""
    return normed(norm, convolution, x, None, stream) + convolution.bias.view(-1, 1, 1, 1)


def _convolve_pictures(clip: Tensor, weight: Tensor) -> Tensor:
    """A convolution in time whose three frames are channels; half the time with 96 (H200)."""
    frames = clip.transpose(1, 2)
    pictures = F.conv2d(frames.flatten(0, 1), weight.transpose(1, 2).flatten(1, 2), padding=1)
    return pictures.unflatten(0, frames.shape[:2]).transpose(1, 2)


def activated(x: Tensor, bias: Tensor | None, gamma: Tensor, before: Tensor) -> Tensor:
    """SiLU of the RMS norm of x + bias, behind the frames `before`: b c (2 + t) h w."""
    _, c, t, _, _ = x.shape
    out = _empty(x, c, 2 + t)
    out[:, :, :2] = before
    _write_activated(out[:, :, 2:], x, bias, gamma, copies=1)
    return out


def stacked(x: Tensor, bias: Tensor | None, gamma: Tensor, before: Tensor) -> Tensor:
    """The same with the two frames before a frame as channels before its own: b 3c t h w."""
    _, c, t, _, _ = x.shape
    out = _empty(x, 3 * c, t)
    out[:, :c, :2] = before[:, :, :t]
    out[:, c : 2 * c, :1] = before[:, :, 1:]
    _write_activated(out, x, bias, gamma, copies=3)
    return out


def add(x: Tensor, bias: Tensor, shortcut: Tensor) -> Tensor:
    """x + bias + shortcut."""
    b, c, t, h, w = x.shape
    out = _empty(x, c, t)
    rows = b * t * h * w
    grid, block, height = _grid(rows, c, 1)
    kernels.add[grid](
        _channels_last(x),
        bias,
        _channels_last(shortcut),
        out,
        rows,
        CHANNELS=c,
        BLOCK=block,
        ROWS=height,
    )
    return out


def doubled(x: Tensor) -> Tensor:
    """b c h w at twice the size: the nearest pixel's values."""
    b, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, 2, w, 2, c)
    return pixels.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _write_activated(
    out: Tensor, x: Tensor, bias: Tensor | None, gamma: Tensor, *, copies: int
) -> None:
    """Write each frame as the last channels of its own place, before them in the next, and so on.

    Args:
        out: b (copies c) t h w.
    """
    b, c, t, h, w = x.shape
    x, rows = _channels_last(x), t * h * w
    grid, block, height = _grid(rows, c, b)
    kernels.activate[grid](
        x,
        gamma if bias is None else bias,
        gamma,
        out,
        rows,
        h * w,
        x.stride(0),
        out.stride(0),
        c**0.5,
        HAS_BIAS=bias is not None,
        COPIES=copies,
        CHANNELS=c,
        BLOCK=block,
        ROWS=height,
    )


def _empty(like: Tensor, channels: int, frames: int) -> Tensor:
    b, _, _, h, w = like.shape
    return like.new_empty(b, frames, h, w, channels).permute(0, 4, 1, 2, 3)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _grid(rows: int, channels: int, batch: int) -> tuple[tuple[int, int], int, int]:
    """Programs, and the tile of each: channels and rows."""
    block = triton.next_power_of_2(channels)
    height = max(1, _TILE // block)
    return (triton.cdiv(rows, height), batch), block, height
