"""Where the speakers are: region masks of the source picture, reduced to the model's grids.

Axes: 3 = person 1, person 2, background; h w of the picture, of the latent (pixels / 8) or of the
tokens (latent / 2). Masks are uint8, 0 or 1.
"""

import numpy as np

from infinitetalk.errors import InvalidField
from infinitetalk.media.image import cover_crop_mask, nearest
from infinitetalk.spec import Box

_MARGIN = 0.05  # of the picture's height and of each half's width, left free by the default regions


def region_masks(
    height: int, width: int, boxes: tuple[Box, ...], speakers: int
) -> np.ndarray:  # -> 3 h w
    """Masks at the size of the picture; without boxes each speaker has a half of it.

    One speaker has the whole picture, whatever the boxes are.

    Raises:
        InvalidField: a box is empty or leaves the picture.
    """
    masks = np.zeros((3, height, width), np.uint8)
    if speakers == 1:
        return masks + np.uint8(1)
    for number, box in enumerate(boxes or _halves(height, width)):
        _check(box, number, height, width)
        masks[number, box.top : box.bottom, box.left : box.right] = 1
    masks[2] = 1 - masks[:2].max(axis=0)
    return masks


def latent_masks(
    masks: np.ndarray, size: tuple[int, int], latent_size: tuple[int, int]
) -> np.ndarray:  # 3 h w -> 3 h w
    """Masks cut like the picture, `cover_crop` to `size`, and reduced to the latent grid.

    Raises:
        InvalidField: a speaker vanishes in the latent or in the token grid.
    """
    latent = nearest(cover_crop_mask(masks, size), latent_size)
    check_speakers(latent)
    check_speakers(nearest(latent, (latent_size[0] // 2, latent_size[1] // 2)))
    return latent


def check_speakers(masks: np.ndarray) -> None:  # 3 h w
    """Refuse masks in which a speaker covers nothing; an empty background is nobody's loss.

    Raises:
        InvalidField: says which speaker is lost.
    """
    for number, mask in enumerate(masks[:2], 1):
        if not mask.any():
            raise InvalidField(
                f"Box {number} covers nothing of what is rendered: the picture is cropped to the "
                "shape of the video. Make the box larger or move it towards the middle.",
                field="boxes",
            )


def _halves(height: int, width: int) -> tuple[Box, Box]:
    half = width // 2
    top, bottom = int(_MARGIN * height), int((1 - _MARGIN) * height)
    left, right = _MARGIN * half, (1 - _MARGIN) * half
    return (
        Box(top, int(left), bottom, int(right)),
        Box(top, int(left + half), bottom, int(right + half)),
    )


def _check(box: Box, number: int, height: int, width: int) -> None:
    inside = 0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width
    if not inside:
        raise InvalidField(
            f"Box {number + 1} must lie inside the picture of {width}x{height} pixels "
            "and hold at least one of them.",
            field="boxes",
        )
