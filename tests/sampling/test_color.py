import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from infinitetalk.sampling.color import AT_ONCE, match_color

GENERATOR = torch.Generator().manual_seed(3)
FRAMES = (torch.rand(3, 4, 24, 20, generator=GENERATOR) * 1.2 - 0.7).clamp(-1, 1)
REFERENCE = torch.rand(3, 18, 30, generator=GENERATOR) * 0.8 - 0.2


def lab(frame: Tensor) -> np.ndarray:
    """3 h w in [-1, 1] to h w 3 in Lab, by scikit-image."""
    return np.asarray(rgb2lab((frame.double().permute(1, 2, 0).numpy() + 1) / 2))


def test_strength_zero_is_the_frames_themselves() -> None:
    assert match_color(FRAMES, REFERENCE, 0.0) is FRAMES


def test_a_picture_matched_to_itself_is_unchanged() -> None:
    picture = FRAMES[:, 0]
    assert torch.allclose(match_color(picture[:, None], picture, 1.0)[:, 0], picture, atol=1e-4)


def test_matched_frames_have_the_mean_and_deviation_of_the_reference() -> None:
    """The deviation of the population: with so few pixels the other one would show."""
    soft = FRAMES[..., :3, :4] * 0.2  # so that no colour leaves the gamut and is cut
    goal = 0.3 * REFERENCE
    for frame in match_color(soft, goal, 1.0).unbind(1):
        assert lab(frame).mean((0, 1)) == pytest.approx(lab(goal).mean((0, 1)), abs=0.05)
        assert lab(frame).std((0, 1)) == pytest.approx(lab(goal).std((0, 1)), abs=0.05)


def test_a_flat_frame_takes_the_mean_colour_of_the_reference() -> None:
    flat = torch.full((3, 1, 8, 8), 0.3)
    matched = match_color(flat, REFERENCE, 1.0)
    assert torch.isfinite(matched).all()
    spread = matched.flatten(1)
    assert torch.allclose(spread.amax(1), spread.amin(1), atol=1e-5)
    assert lab(matched[:, 0]).mean((0, 1)) == pytest.approx(lab(REFERENCE).mean((0, 1)), abs=0.05)


def test_every_frame_is_matched_by_itself() -> None:
    together = match_color(FRAMES, REFERENCE, 1.0)
    alone = match_color(FRAMES[:, 2:3], REFERENCE, 1.0)
    assert torch.allclose(together[:, 2:3], alone, atol=1e-6)


def test_a_long_clip_is_matched_like_its_frames() -> None:
    """More frames than are matched at once."""
    long = FRAMES.repeat(1, 5, 1, 1)[:, : 2 * AT_ONCE + 1]
    alone = match_color(FRAMES, REFERENCE, 1.0)
    together = match_color(long, REFERENCE, 1.0)
    assert torch.allclose(together, alone.repeat(1, 5, 1, 1)[:, : long.shape[1]], atol=1e-6)


def test_strength_blends_between_frames_and_match() -> None:
    half = match_color(FRAMES, REFERENCE, 0.5)
    full = match_color(FRAMES, REFERENCE, 1.0)
    assert torch.allclose(half, (FRAMES + full) / 2, atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_frames_beyond_the_range_come_back_inside_it(strength: float) -> None:
    matched = match_color(FRAMES * 3, REFERENCE, strength)
    assert matched.abs().max() <= 1 + 1e-6


def test_black_and_white_stay_finite() -> None:
    for level in (-1.0, 1.0):
        frames = torch.full((3, 1, 4, 4), level)
        assert torch.isfinite(match_color(frames, frames[:, 0], 1.0)).all()
