"""The layers of Wan's video VAE, from a piece of a clip to its latent and back.

diffusers' modules hold the weights. The way through them is ours: it keeps the past in a `Stream`,
ends where tiles begin, and can leave norms and sums to kernels (vae_fused.py), for which theirs,
in 16 bits, go to float32 and back and copy a clip before every convolution.

Axes: b batch, c channels, t frames at the layer's rate, h w size.
"""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor
from torch.nn import functional as F

from infinitetalk.models.vae_stream import Stream


def encode_piece(net: AutoencoderKLWan, clip: Tensor, stream: Stream) -> Tensor:
    """b 3 t h w to the statistics of its latent; 1 frame at first, then 4 at a time."""
    x = _convolved(net.encoder.conv_in, clip, stream)
    for layer in net.encoder.down_blocks:
        run = _halved if isinstance(layer, WanResample) else _residual
        x = run(layer, x, stream)
    x = _middle(net.encoder.mid_block, x, stream)
    return net.quant_conv(_last(net.encoder.norm_out, net.encoder.conv_out, x, stream))


def decode_whole(net: AutoencoderKLWan, latent: Tensor, stream: Stream) -> Tensor:
    """The decoder's layers as small as the latent, where a pixel sees the whole picture; b c 1 h w
    of one latent frame."""
    x = _convolved(net.decoder.conv_in, net.post_quant_conv(latent), stream)
    x = _middle(net.decoder.mid_block, x, stream)
    for block in net.decoder.up_blocks[0].resnets:
        x = _residual(block, x, stream)
    return x


def decode_local(net: AutoencoderKLWan, x: Tensor, stream: Stream, *, is_first: bool) -> Tensor:
    """The rest of the decoder, where a pixel depends on few pixels of x around it; to pixels."""
    first, *blocks = net.decoder.up_blocks
    x = _doubled(first.upsamplers[0], x, stream, is_first=is_first)
    for block in blocks:
        for resnet in block.resnets:
            x = _residual(resnet, x, stream)
        for upsampler in block.upsamplers or ():
            x = _doubled(upsampler, x, stream, is_first=is_first)
    return _last(net.decoder.norm_out, net.decoder.conv_out, x, stream)


def _residual(block: WanResidualBlock, x: Tensor, stream: Stream) -> Tensor:
    shortcut = block.conv_shortcut(x)
    if stream.is_fused:
        from infinitetalk.models import vae_fused

        return vae_fused.residual(block, x, shortcut, stream)
    y = _normed(block.norm1, block.conv1, x, stream)
    return _normed(block.norm2, block.conv2, y, stream) + shortcut


def _last(norm: WanRMS_norm, convolution: WanCausalConv3d, x: Tensor, stream: Stream) -> Tensor:
    if stream.is_fused:
        from infinitetalk.models import vae_fused

        return vae_fused.last(norm, convolution, x, stream)
    return _normed(norm, convolution, x, stream)


def _normed(norm: WanRMS_norm, convolution: WanCausalConv3d, x: Tensor, stream: Stream) -> Tensor:
    """A convolution over SiLU of the RMS norm."""
    return _convolved(convolution, F.silu(norm(x)), stream)


def _convolved(convolution: WanCausalConv3d, x: Tensor, stream: Stream) -> Tensor:
    before = stream.before(convolution, x)
    stream.remember(convolution, torch.cat((before, x[:, :, -2:]), 2))
    return convolution(x, before)


def _middle(block: WanMidBlock, x: Tensor, stream: Stream) -> Tensor:
    x = _residual(block.resnets[0], x, stream)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, attention(x), stream)
    return x


def _doubled(layer: WanResample, x: Tensor, stream: Stream, *, is_first: bool) -> Tensor:
    """Twice the size and, where it is its layer's and the piece is not the first, the rate."""
    if layer.mode == "upsample3d" and not is_first:
        pair = _convolved(layer.time_conv, x, stream).chunk(2, dim=1)
        x = torch.cat([half[:, :, i : i + 1] for i in range(x.shape[2]) for half in pair], 2)
    upsample, convolution = layer.resample
    if stream.is_fused:
        from infinitetalk.models import vae_fused

        upsample = vae_fused.doubled
    return _each_frame(lambda x: convolution(upsample(x)), x)


def _halved(layer: WanResample, x: Tensor, stream: Stream) -> Tensor:
    """Half the size and, where it is its layer's, the rate; a first frame stays one."""
    x = _each_frame(layer.resample, x)
    if layer.mode == "downsample3d":
        before = stream.past.get(layer.time_conv)
        stream.past[layer.time_conv] = x[:, :, -1:].clone()
        if before is not None:
            x = layer.time_conv(torch.cat((before, x), 2))
    return x


def _each_frame(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of pictures over the frames of a clip."""
    frames = x.transpose(1, 2)
    return layer(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)
