import pytest
import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from infinitetalk.models.image_encoder import PIXEL_MEAN, PIXEL_STD, ImageEncoder
from infinitetalk.weights.load import Model


@pytest.fixture
def encoder(tiny_model: Model) -> ImageEncoder:
    return tiny_model.image_encoder


def stripes(height: int, width: int) -> Tensor:
    """Black and white columns, four pixels each."""
    columns = (torch.arange(width) // 4 % 2).float() * 2 - 1
    return columns.expand(1, 3, height, width)


def test_overshoot_of_the_bicubic_filter_is_not_clamped(encoder: ImageEncoder) -> None:
    pixels = encoder.preprocess(stripes(24, 24))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    levels = pixels[0] * std + mean
    assert levels.max() > 1.01
    assert levels.min() < -0.01


def test_the_picture_is_squashed_to_a_square(encoder: ImageEncoder) -> None:
    side = encoder.config.image_size
    assert encoder.preprocess(stripes(32, 96)).shape == (1, 3, side, side)


def test_a_picture_of_the_right_size_is_only_scaled(encoder: ImageEncoder) -> None:
    side = encoder.config.image_size
    frame = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    wanted = ((frame + 1) / 2 - mean) / std
    assert torch.allclose(encoder.preprocess(frame), wanted, atol=1e-5)


def test_shrinking_does_not_smooth(encoder: ImageEncoder) -> None:
    """Noise stays noise: with antialiasing a tenth of the size would be nearly grey."""
    frame = torch.rand(1, 3, 560, 560, generator=torch.Generator().manual_seed(1)) * 2 - 1
    levels = encoder.preprocess(frame) * torch.tensor(PIXEL_STD).view(3, 1, 1)
    assert levels.std() > 0.5 * (frame * 0.5).std()


def test_the_last_block_is_never_built_and_every_token_is_kept(encoder: ImageEncoder) -> None:
    config = encoder.config
    tokens = encoder(stripes(32, 32))
    assert tokens.shape == (1, (config.image_size // config.patch) ** 2 + 1, config.dim)
    tower = getattr(encoder.net, "vision_model", encoder.net)
    assert len(tower.encoder.layers) == config.layers - 1


def test_tokens_come_straight_from_the_last_block_built(encoder: ImageEncoder) -> None:
    tower = getattr(encoder.net, "vision_model", encoder.net)
    kept: list[Tensor] = []
    hook = tower.encoder.layers[-1].register_forward_hook(
        lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    tokens = encoder(stripes(32, 32))
    hook.remove()
    assert torch.equal(tokens, kept[0].view_as(tokens))


def test_norms_and_activation_are_the_originals(encoder: ImageEncoder) -> None:
    norms = [m for m in encoder.modules() if isinstance(m, nn.LayerNorm)]
    assert norms
    assert {norm.eps for norm in norms} == {1e-5}
    erf = [m for m in encoder.modules() if isinstance(m, GELUActivation | nn.GELU)]
    assert len(erf) == encoder.config.layers - 1
