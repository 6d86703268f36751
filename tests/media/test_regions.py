import numpy as np
import pytest

from infinitetalk.errors import InvalidField
from infinitetalk.media.image import choose_bucket
from infinitetalk.media.regions import check_speakers, latent_masks, region_masks
from infinitetalk.spec import Box

# The reference at a picture of 54 x 80, cut to 48 x 64, latent 6 x 8 (golden case_pipeline_single).
SIZE, LATENT = (48, 64), (6, 8)
DEFAULT = ["33333333", "11113222", "11113222", "11113222", "11113222", "11113222"]
BOXES = ["33333333", "11113333", "11113222", "11113222", "11113222", "11113222"]


def drawn(masks: np.ndarray) -> list[str]:
    """Masks as text: 1, 2 and 3 for person 1, person 2 and background."""
    assert (masks.sum(axis=0) == 1).all()
    return ["".join(map(str, row)) for row in masks.argmax(axis=0) + 1]


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [((), DEFAULT), ((Box(4, 2, 50, 34), Box(10, 44, 54, 78)), BOXES)],
    ids=["halves", "boxes"],
)
def test_two_speakers_have_the_regions_of_the_reference(
    boxes: tuple[Box, ...], wanted: list[str]
) -> None:
    assert choose_bucket(54, 80, {"0.50": (32, 64), "0.75": SIZE, "1.33": (64, 48)}) == SIZE
    assert drawn(latent_masks(region_masks(54, 80, boxes, 2), SIZE, LATENT)) == wanted


def test_one_speaker_has_the_whole_picture() -> None:
    masks = latent_masks(region_masks(54, 80, (), 1), SIZE, LATENT)
    assert masks.shape == (3, *LATENT) and (masks == 1).all()


def test_boxes_are_rows_and_columns_with_an_exclusive_end() -> None:
    masks = region_masks(20, 30, (Box(1, 2, 4, 8), Box(0, 20, 20, 30)), 2)
    assert masks[0].sum() == 3 * 6 and masks[0, 1:4, 2:8].all()
    assert masks[1].sum() == 20 * 10
    assert np.array_equal(masks[2], 1 - masks[0] - masks[1])


@pytest.mark.parametrize(
    "box",
    [Box(5, 5, 5, 9), Box(5, 9, 9, 5), Box(-1, 0, 5, 5), Box(0, 0, 21, 5), Box(0, 0, 5, 31),
     Box(40, 40, 50, 50)],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1])
def test_a_box_that_is_empty_or_outside_is_refused(box: Box, place: int) -> None:
    boxes = [Box(1, 1, 9, 9), Box(1, 11, 9, 19)]
    boxes[place] = box
    with pytest.raises(InvalidField) as refused:
        region_masks(20, 30, tuple(boxes), 2)
    assert refused.value.field == "boxes"


@pytest.mark.parametrize(
    "boxes",
    [(Box(8, 8, 9, 9), Box(0, 40, 54, 80)),  # between two latent pixels
     (Box(9, 9, 18, 18), Box(0, 40, 54, 80)),  # one latent pixel, between two tokens
     (Box(0, 0, 54, 4), Box(0, 40, 54, 80))],  # only in what is cut off
    ids=["too small", "no token", "cut off"],
)  # fmt: skip
def test_a_region_that_vanishes_is_refused(boxes: tuple[Box, ...]) -> None:
    with pytest.raises(InvalidField) as refused:
        latent_masks(region_masks(54, 80, boxes, 2), SIZE, LATENT)
    assert refused.value.field == "boxes"


def test_two_halves_without_a_background_are_fine() -> None:
    masks = region_masks(54, 80, (Box(0, 0, 54, 40), Box(0, 40, 54, 80)), 2)
    first, second, background = latent_masks(masks, SIZE, LATENT)
    assert first.any() and second.any() and not background.any()


def test_which_speaker_is_lost_is_said() -> None:
    masks = np.ones((3, 4, 4), np.uint8)
    masks[1] = 0
    with pytest.raises(InvalidField, match="Box 2"):
        check_speakers(masks)
