import torch

from infinitetalk.models.audio_projection import AudioProjection, group_windows

# Every entry of every window holds 10 * frame + entry.
CODES = (10 * torch.arange(9)[:, None] + torch.arange(5))[None, :, :, None, None].float()


def test_the_first_frame_keeps_its_whole_window() -> None:
    first, _ = group_windows(CODES, 4)
    assert first.flatten().tolist() == [0, 1, 2, 3, 4]


def test_a_group_of_four_frames_gives_eight_entries_without_the_overlap() -> None:
    _, later = group_windows(CODES, 4)
    assert later.flatten(2).squeeze(0).tolist() == [
        [10, 11, 12, 22, 32, 42, 43, 44],
        [50, 51, 52, 62, 72, 82, 83, 84],
    ]


def test_another_stride_keeps_the_rule() -> None:
    _, later = group_windows(CODES, 2)
    assert later.flatten(2)[0, 0].tolist() == [10, 11, 12, 22, 23, 24]


def projection() -> AudioProjection:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AudioProjection(5, 4, layers=2, channels=3, hidden=8, tokens=6, dim=16)


def test_every_latent_frame_and_person_gets_its_tokens() -> None:
    tokens = projection()(torch.randn(2, 13, 5, 2, 3))
    assert tokens.shape == (2, 4, 6, 16)


def test_a_latent_frame_hears_its_own_frames_only() -> None:
    audio = torch.randn(1, 13, 5, 2, 3)
    other = audio.clone()
    other[:, 5:9] += 1  # the frames of latent frame 2
    network = projection()
    changed = (network(audio) - network(other)).abs().flatten(2).amax(-1)[0] > 0
    assert changed.tolist() == [False, False, True, False]


def test_silence_still_gives_tokens() -> None:
    """Biases and the last norm: the audio attention is never switched off."""
    assert projection()(torch.zeros(1, 13, 5, 2, 3)).abs().max() > 0.1


def test_tokens_are_normed_with_the_eps_of_the_original() -> None:
    network = projection()
    assert network.norm.eps == 1e-5
    tokens = network(torch.randn(1, 13, 5, 2, 3))
    assert torch.allclose(tokens.mean(-1), torch.zeros(1, 4, 6), atol=1e-5)
