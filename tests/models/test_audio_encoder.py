import pytest
import torch
from torch import Tensor

from infinitetalk.models.audio_encoder import AudioEncoder, reference_frames
from infinitetalk.weights.load import Model


@pytest.fixture
def encoder(tiny_model: Model) -> AudioEncoder:
    return tiny_model.audio_encoder


def noise(samples: int, seed: int = 5) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("samples", "frames"), [(36480, 56), (16000, 25), (640, 1), (639, 0), (25000, 39), (0, 0)]
)
def test_frames_are_counted_by_the_originals_floating_point(samples: int, frames: int) -> None:
    assert reference_frames(samples) == frames


@pytest.mark.parametrize("frames", [1, 25, 26, 40])
def test_there_is_one_row_of_every_layer_for_every_frame(
    encoder: AudioEncoder, frames: int
) -> None:
    rows = encoder(noise(16000), frames)
    assert rows.shape == (frames, encoder.config.layers, encoder.config.dim)


def test_the_state_before_the_first_layer_is_dropped(encoder: AudioEncoder) -> None:
    rows = encoder(noise(16000), 25)
    kept: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _a, out: kept.append(out[0]))
        for layer in encoder.net.encoder.layers
    ]
    encoder(noise(16000), 25)
    for hook in hooks:
        hook.remove()
    assert torch.equal(rows, torch.stack([out.view(25, -1) for out in kept], 1))


def test_the_frames_of_one_call_do_not_reach_the_next(encoder: AudioEncoder) -> None:
    alone = encoder(noise(16000), 25)
    encoder(noise(32000, 6), 50)
    assert torch.equal(encoder(noise(16000), 25), alone)


def test_features_are_stretched_from_end_to_end(encoder: AudioEncoder) -> None:
    """align_corners: the first and the last frame are the first and the last feature."""
    wave = noise(16000)[None]
    resampled = encoder.net.feature_extractor
    features = resampled.convolutions(wave)
    resampled.frames = 25
    stretched = resampled(wave)
    assert torch.allclose(stretched[..., 0], features[..., 0])
    assert torch.allclose(stretched[..., -1], features[..., -1])
