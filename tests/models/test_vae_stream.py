"""What a clip leaves for its next piece."""

import torch
from torch import nn

from infinitetalk.models.vae_stream import Stream


def test_before_a_clip_there_are_zeros() -> None:
    x = torch.ones(2, 3, 4, 5, 6)
    before = Stream(is_fused=False).before(nn.Conv3d(3, 3, (3, 1, 1)), x)
    assert before.shape == (2, 3, 2, 5, 6)
    assert not before.any()


def test_a_piece_leaves_its_last_two_frames_to_its_own_convolution() -> None:
    stream, x = Stream(is_fused=False), torch.rand(1, 3, 4, 2, 2)
    mine, other = nn.Conv3d(3, 3, 3), nn.Conv3d(3, 3, 3)
    stream.remember(mine, x)
    assert torch.equal(stream.before(mine, x), x[:, :, 2:])
    assert not stream.before(other, x).any()


def test_no_more_than_them_is_kept() -> None:
    stream, x = Stream(is_fused=False), torch.rand(1, 3, 8, 2, 2)
    convolution = nn.Conv3d(3, 3, 3)
    stream.remember(convolution, x)
    kept = stream.before(convolution, x)
    assert kept.untyped_storage().nbytes() == kept.nbytes
