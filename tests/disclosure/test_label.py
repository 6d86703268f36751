"""The visible label: where it is, that it can be read, and what is refused."""

import numpy as np
import pytest

from infinitetalk.config import Settings
from infinitetalk.disclosure.label import MAX_CHARACTERS, draw_label, visible_label
from infinitetalk.errors import InvalidSetting

SIZES = [(48, 48), (128, 128), (96, 160), (448, 896), (1280, 704)]


def grey(height: int, width: int, level: int = 128, count: int = 2) -> np.ndarray:
    return np.full((count, height, width, 3), level, np.uint8)


def changed(height: int, width: int, text: str = "AI-generated") -> tuple[slice, slice]:
    """Rows and columns of the label."""
    frames = grey(height, width)
    draw_label(frames, text)
    rows, columns = np.nonzero((frames[0] != 128).any(axis=-1))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_it_stands_in_the_lower_left_corner_and_is_small(height: int, width: int) -> None:
    rows, columns = changed(height, width)
    assert rows.start > 0.7 * height and rows.stop < height
    assert 0 < columns.start < 0.05 * width and columns.stop < width
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    assert share < 0.25 if height < 100 else share < 0.07


@pytest.mark.parametrize(("height", "width"), SIZES[1:])
def test_its_letters_are_large_enough_to_be_read(height: int, width: int) -> None:
    rows, _ = changed(height, width)
    assert rows.stop - rows.start >= max(11, 0.04 * min(height, width))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_it_can_be_read_on_any_ground(level: int) -> None:
    frames = grey(128, 128, level)
    rows, columns = changed(128, 128)
    draw_label(frames, "AI-generated")
    label = frames[0, rows, columns]
    assert int(label.max()) - int(np.median(label)) > 120


def test_every_frame_has_the_same() -> None:
    frames = grey(128, 128, count=5)
    draw_label(frames, "AI-generated")
    assert (frames == frames[0]).all()


@pytest.mark.parametrize("text", ["A" * MAX_CHARACTERS, "KI-generiert", "i"])
def test_any_text_fits_the_smallest_picture(text: str) -> None:
    frames = grey(48, 48)
    draw_label(frames, text)
    assert (frames != 128).any()


def test_no_label_is_drawn_unless_one_is_set() -> None:
    assert visible_label(Settings()) is None
    assert visible_label(Settings(label="KI-generiert")) == "KI-generiert"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("A" * (MAX_CHARACTERS + 1), "longer"), ("généré", "'é'"), ("two\nlines", "n'")],
)
def test_a_label_that_cannot_be_drawn_stops_the_start(text: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        visible_label(Settings(label=text))
