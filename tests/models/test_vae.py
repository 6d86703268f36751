"""The streaming decode and the causality that the window loop relies on."""

from itertools import zip_longest

import pytest
import torch
from torch import Tensor

from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights.load import Model


@pytest.fixture
def vae(tiny_model: Model) -> VideoVAE:
    return tiny_model.vae


def latent(frames: int, seed: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 16, frames, 3, 4, generator=generator)


def video(frames: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, 24, 32, generator=generator) * 2 - 1


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_stream_is_the_one_shot_decode_chunk_by_chunk(vae: VideoVAE, frames: int) -> None:
    z = latent(frames)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.mean, vae.config.std))
    whole = vae.net.decode(z * std + mean).sample
    chunks = list(vae.decode_stream(z))
    assert [chunk.shape[2] for chunk in chunks] == [1, *[4] * (frames - 1)]
    for chunk, wanted in zip(chunks, whole.split([1, *[4] * (frames - 1)], dim=2), strict=True):
        assert torch.equal(chunk, wanted)


def test_decode_is_the_whole_stream(vae: VideoVAE) -> None:
    z = latent(3)
    assert torch.equal(vae.decode(z), torch.cat(list(vae.decode_stream(z)), 2))


def test_interleaved_streams_do_not_disturb_each_other(vae: VideoVAE) -> None:
    first, second = latent(4, seed=1), latent(3, seed=2)
    pairs = list(zip_longest(vae.decode_stream(first), vae.decode_stream(second)))
    ours, theirs = (
        [chunk for chunk in row if chunk is not None] for row in zip(*pairs, strict=True)
    )
    assert torch.equal(torch.cat(ours, 2), vae.decode(first))
    assert torch.equal(torch.cat(theirs, 2), vae.decode(second))


def test_encoding_in_the_middle_of_a_stream_does_not_disturb_it(vae: VideoVAE) -> None:
    z = latent(3)
    stream = vae.decode_stream(z)
    chunks = [next(stream)]
    vae.encode(video(5))
    vae.net.decode(latent(2, seed=9))
    assert torch.equal(torch.cat([*chunks, *stream], 2), vae.decode(z))


def test_a_stream_given_up_leaves_nothing_behind(vae: VideoVAE) -> None:
    wanted = vae.decode(latent(3))
    next(vae.decode_stream(latent(3, seed=8)))
    assert torch.equal(vae.decode(latent(3)), wanted)


def test_the_past_does_not_change_with_the_future(vae: VideoVAE) -> None:
    z, other = latent(4), latent(4)
    other[:, :, 3:] = 0
    assert torch.equal(vae.decode(z)[:, :, :9], vae.decode(other)[:, :, :9])


def test_a_picture_followed_by_grey_begins_with_the_latent_of_the_picture(vae: VideoVAE) -> None:
    clip = video(13)
    clip[:, :, 1:] = 0
    assert torch.equal(vae.encode(clip)[:, :, :1], vae.encode(clip[:, :, :1]))


def test_motion_frames_are_encoded_as_a_clip_of_their_own(vae: VideoVAE) -> None:
    clip = video(9)
    assert not torch.allclose(vae.encode(clip)[:, :, 1:], vae.encode(clip[:, :, 4:]), atol=1e-3)


@pytest.mark.parametrize(("frames", "latent_frames"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_frames_past_the_last_group_of_four_are_ignored(
    vae: VideoVAE, frames: int, latent_frames: int
) -> None:
    clip = video(frames)
    encoded = vae.encode(clip)
    assert encoded.shape == (1, 16, latent_frames, 3, 4)
    assert torch.equal(encoded, vae.encode(clip[:, :, : 4 * latent_frames - 3]))


def test_encoding_draws_no_sample(vae: VideoVAE) -> None:
    assert torch.equal(vae.encode(video(5)), vae.encode(video(5)))


def test_latents_are_normalised_by_the_statistics_of_their_channel(vae: VideoVAE) -> None:
    mode = vae.net.encode(video(5)).latent_dist.mode()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.mean, vae.config.std))
    assert torch.allclose(vae.encode(video(5)) * std + mean, mode, atol=1e-5)


def test_pixels_come_back_clamped_and_in_float32(vae: VideoVAE) -> None:
    frames = vae.decode(100 * latent(2))
    assert frames.dtype == torch.float32
    assert frames.abs().max() == 1


def test_a_batch_of_two_is_two_batches_of_one(vae: VideoVAE) -> None:
    z = torch.cat((latent(2, seed=1), latent(2, seed=2)))
    alone = torch.cat([vae.decode(row[None]) for row in z])
    assert torch.allclose(vae.decode(z), alone, atol=1e-4)
