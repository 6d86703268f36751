"""What the branches and windows of a job share, and what they may not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.conditioning import (
    Conditioner,
    Heard,
    Picture,
    Scene,
    Texts,
    latent_size,
    to_pixels,
    with_mask,
)
from infinitetalk.errors import InvalidField
from infinitetalk.models.attention import sdpa
from infinitetalk.models.transformer import Conditioning
from infinitetalk.sampling.guidance import Branch
from infinitetalk.sampling.windows import WindowPlan, heard_rows
from infinitetalk.spec import Box, GenerationSpec, specify
from infinitetalk.speech import EmbeddedSpeech
from infinitetalk.weights.load import Model

SIZE = (48, 64)
PLAN = WindowPlan(80, 33, 5)
LEFT, RIGHT = Box(0, 0, 60, 30), Box(0, 50, 60, 80)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Film:
    """A video whose every frame is a picture of its own."""

    height: int = 60
    width: int = 80
    is_still: bool = False

    def frame(self, index: int) -> np.ndarray:
        return picture(index)


def voice(seed: int) -> EmbeddedSpeech:
    generator = torch.Generator().manual_seed(seed)
    return EmbeddedSpeech(torch.randn(PLAN.covered_frames, 2, 32, generator=generator))


def heard(index: int, persons: int = 1) -> Heard:
    window = PLAN.window(index)
    rows = heard_rows(window.start, window.length, PLAN.covered_frames)
    return Heard(window, (rows,) * persons)


@pytest.fixture
def condition(tiny_model: Model) -> Callable[..., Conditioner]:
    """A conditioner of the tiny model."""

    def make(
        scene: Scene | None = None,
        voices: Sequence[EmbeddedSpeech] = (voice(1),),
        spec: GenerationSpec | None = None,
    ) -> Conditioner:
        texts = [tiny_model.text_encoder(tiny_model.tokenizer(t)) for t in ("a", "b c")]
        return Conditioner(
            tiny_model.transformer,
            tiny_model.vae,
            tiny_model.image_encoder,
            spec or specify("tiny"),
            scene or Picture(picture()),
            Texts(*texts),
            voices,
            SIZE,
        )

    return make


def window_of(
    conditioner: Conditioner, index: int = 0, persons: int = 1
) -> dict[Branch, Conditioning]:
    what = heard(index, persons)
    return dict(conditioner.window(what, conditioner.view(what.window.start), list(Branch)))


def predict(model: Model, conditioning: Conditioning) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, 16, *latent_size(33, SIZE), generator=generator)
    return model.transformer(latent, torch.tensor([600.0]), conditioning, sdpa)


def test_pixels_go_from_minus_one_to_one() -> None:
    image = np.array([[[0, 51, 255]]], np.uint8)
    assert torch.allclose(
        to_pixels(image, torch.device("cpu")).flatten(), torch.tensor([-1.0, -0.6, 1.0])
    )


@pytest.mark.parametrize(
    ("frames", "size", "wanted"),
    [(81, (448, 896), (21, 56, 112)), (33, (32, 48), (9, 4, 6)), (1, (16, 16), (1, 2, 2))],
)
def test_the_latent_is_an_eighth_in_space_and_a_quarter_in_time(
    frames: int, size: tuple[int, int], wanted: tuple[int, int, int]
) -> None:
    assert latent_size(frames, size) == wanted


def test_the_mask_is_one_where_a_frame_is_given() -> None:
    masked = with_mask(torch.full((1, 16, 3, 2, 2), 5.0))
    assert masked.shape == (1, 20, 3, 2, 2)
    assert masked[:, :4].amax((0, 1, 3, 4)).tolist() == [1, 0, 0]
    assert masked[:, :4].amin((0, 1, 3, 4)).tolist() == [1, 0, 0]
    assert (masked[:, 4:] == 5).all()


def test_a_still_picture_is_encoded_once(condition: Callable[..., Conditioner]) -> None:
    conditioner = condition()
    assert conditioner.view(0) is conditioner.view(28) is conditioner.view(56)


def test_a_video_is_encoded_anew_at_every_window(condition: Callable[..., Conditioner]) -> None:
    conditioner = condition(Film())
    assert not torch.allclose(conditioner.view(0).latent, conditioner.view(28).latent, atol=1e-3)
    alone = condition(Picture(picture(28)))
    assert torch.equal(conditioner.view(28).latent, alone.view(0).latent)


def test_the_first_latent_of_the_view_is_that_of_the_picture_alone(
    condition: Callable[..., Conditioner], tiny_model: Model
) -> None:
    conditioner = condition()
    alone = tiny_model.vae.encode(conditioner.pixels(0)[None, :, None])
    assert torch.equal(conditioner.view(0).first_frame, alone)


def test_branches_share_what_is_equal_between_them(
    condition: Callable[..., Conditioner],
) -> None:
    branches = window_of(condition())
    cond, drop_text, uncond = (branches[b] for b in (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND))
    drop_audio = branches[Branch.DROP_AUDIO]
    assert cond.audio is drop_text.audio
    assert drop_audio.audio is uncond.audio
    assert cond.text is drop_audio.text
    assert drop_text.text is uncond.text
    assert cond.audio is not uncond.audio
    assert cond.text is not uncond.text
    assert len({id(c.image) for c in branches.values()}) == 1
    assert len({id(c.latent) for c in branches.values()}) == 1


def test_text_and_silence_are_encoded_once_for_all_windows(
    condition: Callable[..., Conditioner],
) -> None:
    conditioner = condition()
    first, second = window_of(conditioner, 0), window_of(conditioner, 1)
    assert first[Branch.UNCOND].audio is second[Branch.UNCOND].audio
    assert first[Branch.COND].text is second[Branch.COND].text
    assert first[Branch.COND].audio is not second[Branch.COND].audio


def test_silence_is_one_person_of_zeros_even_in_a_duet(
    condition: Callable[..., Conditioner], tiny_model: Model
) -> None:
    duet = window_of(condition(voices=(voice(1), voice(2))), persons=2)
    tokens = tiny_model.transformer.config.audio_tokens
    assert duet[Branch.COND].audio[0].k.shape[1] == 2 * tokens
    assert duet[Branch.UNCOND].audio[0].k.shape[1] == tokens
    solo = window_of(condition())
    assert torch.equal(duet[Branch.UNCOND].audio[1].v, solo[Branch.UNCOND].audio[1].v)


@pytest.mark.parametrize("branch", [Branch.DROP_AUDIO, Branch.UNCOND])
def test_the_silent_branches_ignore_regions(
    condition: Callable[..., Conditioner], tiny_model: Model, branch: Branch
) -> None:
    voices = (voice(1), voice(2))
    here, there = (
        window_of(condition(voices=voices, spec=specify("tiny", boxes=boxes)), persons=2)
        for boxes in ((LEFT, RIGHT), (RIGHT, LEFT))
    )
    assert here[branch].regions is None
    assert torch.equal(predict(tiny_model, here[branch]), predict(tiny_model, there[branch]))
    heard_here, heard_there = (predict(tiny_model, c[Branch.COND]) for c in (here, there))
    assert (heard_here - heard_there).abs().max() > 1e-4


@pytest.mark.parametrize("boxes", [(), (LEFT, RIGHT)], ids=["halves", "boxes"])
def test_regions_of_a_duet_divide_the_tokens_of_a_frame(
    condition: Callable[..., Conditioner], boxes: tuple[Box, ...]
) -> None:
    duet = condition(voices=(voice(1), voice(2)), spec=specify("tiny", boxes=boxes))
    regions = window_of(duet, persons=2)[Branch.COND].regions
    assert regions is not None
    assert regions.shape == (3, SIZE[0] // 16 * SIZE[1] // 16)
    assert (regions.sum(0) == 1).all()
    assert (regions.sum(1) > 0).all()


def test_swapped_boxes_swap_the_regions(condition: Callable[..., Conditioner]) -> None:
    one, other = (
        window_of(condition(voices=(voice(1), voice(2)), spec=specify("tiny", boxes=b)), persons=2)
        for b in ((LEFT, RIGHT), (RIGHT, LEFT))
    )
    regions, swapped = one[Branch.COND].regions, other[Branch.COND].regions
    assert regions is not None
    assert swapped is not None
    assert torch.equal(swapped, regions[[1, 0, 2]])


def test_one_voice_has_no_regions_whatever_the_boxes(
    condition: Callable[..., Conditioner],
) -> None:
    solo = window_of(condition(spec=specify("tiny", boxes=(LEFT, RIGHT))))
    assert solo[Branch.COND].regions is None


def test_a_box_too_small_for_the_tokens_is_refused_before_rendering(
    condition: Callable[..., Conditioner],
) -> None:
    dot = Box(59, 0, 60, 1)
    with pytest.raises(InvalidField, match="Box 1 covers nothing"):
        condition(voices=(voice(1), voice(2)), spec=specify("tiny", boxes=(dot, RIGHT)))


def test_a_window_hears_its_own_rows(condition: Callable[..., Conditioner]) -> None:
    """The second window of some speech is the first one of what is left after a cut."""
    start = PLAN.window(1).start
    speech = torch.randn(PLAN.covered_frames, 2, 32, generator=torch.Generator().manual_seed(4))
    later = window_of(condition(voices=(EmbeddedSpeech(speech),)), 1)[Branch.COND]
    cut = EmbeddedSpeech(torch.cat((speech[start:], speech[:start])))
    first = window_of(condition(voices=(cut,)), 0)[Branch.COND]
    before, after = later.audio[0].v, first.audio[0].v
    assert torch.equal(before[2:], after[2:])
    assert not torch.equal(before[:2], after[:2])  # these reach back over the cut
