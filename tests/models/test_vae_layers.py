"""How far the parts of the decoder see; their numbers are checked in test_vae.py."""

import pytest
import torch
from torch import Tensor

from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vae_layers import decode_local, decode_whole
from infinitetalk.models.vae_stream import Stream
from infinitetalk.weights.load import Model

HEIGHT, MIDDLE = 14, 6


@pytest.fixture
def vae(tiny_model: Model) -> VideoVAE:
    return tiny_model.vae


def pixels(vae: VideoVAE, features: Tensor) -> Tensor:
    return decode_local(vae.net, features, Stream(is_fused=False), is_first=True)


def test_a_pixel_depends_on_as_many_around_as_the_config_says(vae: VideoVAE) -> None:
    latent = torch.randn(1, 16, 1, HEIGHT, 1, generator=torch.Generator().manual_seed(3))
    features = decode_whole(vae.net, latent, Stream(is_fused=False))
    other = features.clone()
    other[:, :, :, MIDDLE] += 1
    changed = (pixels(vae, features) != pixels(vae, other)).any(-1).flatten(0, 2).any(0).nonzero()
    reach = vae.config.reach
    assert MIDDLE - reach <= int(changed.min()) // 8 < MIDDLE
    assert MIDDLE < int(changed.max()) // 8 <= MIDDLE + reach


def test_before_that_a_pixel_depends_on_the_whole_picture(vae: VideoVAE) -> None:
    latent = torch.randn(1, 16, 1, 40, 1, generator=torch.Generator().manual_seed(4))
    other = latent.clone()
    other[:, :, :, 0] += 1
    whole, changed = (decode_whole(vae.net, z, Stream(is_fused=False)) for z in (latent, other))
    assert (whole != changed)[:, :, :, -1].any()


def test_a_first_piece_is_one_frame_and_a_later_one_four(vae: VideoVAE) -> None:
    stream = Stream(is_fused=False)
    features = torch.zeros(1, vae.net.decoder.up_blocks[0].resnets[0].out_dim, 1, 2, 2)
    lengths = [
        decode_local(vae.net, features, stream, is_first=first).shape[2] for first in (True, False)
    ]
    assert lengths == [1, 4]
