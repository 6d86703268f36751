"""A visible label: a line of text in the lower left corner of every frame.

It is drawn when a window is written, so the model never sees it: the next window starts from the
frames as they were rendered. Axes: f frames, h height, w width.
"""

from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infinitetalk.config import Settings
from infinitetalk.errors import InvalidSetting

OFF = "off"
MAX_CHARACTERS = 40
SHARE = 0.04  # of the shorter side: the height of the letters
LEAST = 10  # pixels; smaller letters cannot be read
_SMALLEST = 4  # where the picture is too narrow for the text, it is there at least
_PLATE, _INK = (0, 0, 0, 150), (255, 255, 255, 255)  # RGBA
_NO_LETTER = "\N{REPLACEMENT CHARACTER}"  # the font draws its sign for what it lacks


def visible_label(settings: Settings) -> str | None:
    """The text to draw; None where nothing is to be drawn.

    Raises:
        InvalidSetting: it cannot be drawn.
    """
    text = settings.label
    if text == OFF:
        return None
    if len(text) > MAX_CHARACTERS:
        raise InvalidSetting(f"INFINITETALK_LABEL is longer than {MAX_CHARACTERS} characters.")
    missing = [letter for letter in text if not _has_letter(letter)]
    if missing:
        raise InvalidSetting(
            f"INFINITETALK_LABEL has {missing[0]!r}, which the built-in font does not have."
        )
    return text


def draw_label(frames: np.ndarray, text: str) -> None:  # f h w 3 uint8
    """Draw the text into the frames themselves."""
    _, height, width, _ = frames.shape
    plate = _plate(text, height, width)
    alpha = plate[..., 3:].astype(np.uint16)
    rows, columns, _ = plate.shape
    gap = _gap(height, width)
    corner = frames[:, height - gap - rows : height - gap, gap : gap + columns]
    corner[:] = (corner * (255 - alpha) + plate[..., :3] * alpha + 127) // 255


def _plate(text: str, height: int, width: int) -> np.ndarray:  # -> h w 4
    """The text on its dark ground, as large as it may be in a picture of this size."""
    size = max(LEAST, round(SHARE * min(height, width)))
    room = width - 2 * _gap(height, width)
    while (plate := _drawn(text, size)).width > room and size > _SMALLEST:
        size -= 1
    return np.asarray(plate.crop((0, 0, min(plate.width, room), plate.height)))


def _drawn(text: str, size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, size // 3)
    box = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    plate = Image.new("RGBA", box, _PLATE)
    # Pasted through the letters, not blended: the ground would shine through their edges twice.
    letters = Image.new("L", box)
    ImageDraw.Draw(letters).text((margin - left, margin - top), text, 255, font)
    plate.paste(_INK, mask=letters)
    return plate


def _gap(height: int, width: int) -> int:
    """Pixels between the label and the edges; even, because the video's colours are halved."""
    return 2 * max(1, round(0.01 * min(height, width)))


def _has_letter(letter: str) -> bool:
    if letter == " ":
        return True
    drawn = partial(ImageFont.load_default(LEAST).getmask, mode="L")
    return letter.isprintable() and bytes(drawn(letter)) != bytes(drawn(_NO_LETTER))
