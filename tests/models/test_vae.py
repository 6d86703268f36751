"""Pieces, tiles and streams of the VAE, and the causality that the window loop relies on."""

import pytest
import torch
from torch import Tensor

from infinitetalk.models.vae import VAEConfig, VideoVAE
from infinitetalk.weights.load import Model

SEAM = 1e-5  # float32; 1/255 is what a seam may be at most


@pytest.fixture
def vae(tiny_model: Model) -> VideoVAE:
    return tiny_model.vae


def copy_of(vae: VideoVAE, tiles: int = 1, dtype: torch.dtype = torch.float32) -> VideoVAE:
    """One that a test may change."""
    other = VideoVAE(vae.config).eval().requires_grad_(False)
    other.load_state_dict(vae.state_dict())
    other.tiles = tiles
    return other.to(dtype)


def latent(frames: int, seed: int = 6, size: tuple[int, int] = (3, 4)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 16, frames, *size, generator=generator)


def video(frames: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, 24, 32, generator=generator) * 2 - 1


def statistics(vae: VideoVAE) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.mean, vae.config.std))
    return mean, std


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_decode_is_that_of_the_library(vae: VideoVAE, frames: int) -> None:
    z, (mean, std) = latent(frames), statistics(vae)
    assert torch.equal(vae.decode(z), vae.net.decode(z * std + mean).sample)


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_encode_is_that_of_the_library_normalised(vae: VideoVAE, frames: int) -> None:
    clip, (mean, std) = video(frames), statistics(vae)
    mode = vae.net.encode(clip).latent_dist.mode()
    assert torch.equal(vae.encode(clip), (mode - mean) / std)


def test_layers_in_16_bits_are_those_of_the_library_too(vae: VideoVAE) -> None:
    half, z, (mean, std) = copy_of(vae, dtype=torch.bfloat16), latent(2), statistics(vae)
    assert torch.equal(half.decode(z), half.net.decode((z * std + mean).bfloat16()).sample.float())


def test_streams_do_not_disturb_each_other(vae: VideoVAE) -> None:
    first, second = latent(3, seed=1), latent(2, seed=2)
    wanted = vae.decode(first), vae.decode(second), vae.encode(video(5))
    others = []

    def run_others() -> None:
        others.append((vae.decode(second), vae.encode(video(5))))
        vae.net.decode(latent(2, seed=9))

    assert torch.equal(vae.decode(first, run_others), wanted[0])
    assert all(torch.equal(a, wanted[1]) and torch.equal(b, wanted[2]) for a, b in others)


def test_a_decode_given_up_leaves_nothing_behind(vae: VideoVAE) -> None:
    wanted, seen = vae.decode(latent(3)), []

    def give_up() -> None:
        seen.append(None)
        if len(seen) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        vae.decode(latent(3, seed=8), give_up)
    assert torch.equal(vae.decode(latent(3)), wanted)


@pytest.mark.parametrize(("tiles", "count"), [(1, 3 + 3), (2, 3 + 4 * 3)])
def test_whoever_decodes_is_asked_before_every_piece(vae: VideoVAE, tiles: int, count: int) -> None:
    seen: list[None] = []
    copy_of(vae, tiles).decode(latent(3), lambda: seen.append(None))
    assert len(seen) == count


@pytest.mark.parametrize("tiles", [2, 3])
def test_tiles_leave_no_seams(vae: VideoVAE, tiles: int) -> None:
    """Of a picture so high that tiles are cut on the inside: one needs 5 rows around its own."""
    z = latent(2, size=(13, 3))
    assert vae.config.reach == 5
    assert (copy_of(vae, tiles).decode(z) - vae.decode(z)).abs().max() < SEAM


def test_the_released_vae_sees_7_latent_pixels_around() -> None:
    assert VAEConfig().reach == 7


def test_there_are_no_more_tiles_than_latent_pixels(vae: VideoVAE) -> None:
    z = latent(2, size=(1, 3))
    assert torch.allclose(copy_of(vae, 2).decode(z), vae.decode(z), atol=SEAM)


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


def test_pixels_come_back_clamped_and_in_float32(vae: VideoVAE) -> None:
    frames = vae.decode(100 * latent(2))
    assert frames.dtype == torch.float32
    assert frames.abs().max() == 1


def test_a_batch_of_two_is_two_batches_of_one(vae: VideoVAE) -> None:
    z = torch.cat((latent(2, seed=1), latent(2, seed=2)))
    alone = torch.cat([vae.decode(row[None]) for row in z])
    assert torch.allclose(vae.decode(z), alone, atol=1e-4)


def test_where_there_are_no_kernels_it_runs_as_before(vae: VideoVAE) -> None:
    half = copy_of(vae, dtype=torch.float16)
    wanted = half.decode(latent(2))
    with pytest.raises((ImportError, ValueError, RuntimeError)):
        half.fuse()  # a CPU
    assert torch.equal(half.decode(latent(2)), wanted)
