"""Lines, areas and words on a picture, in plain pixels; drawn twice as large and then halved,
because Pillow draws no smooth lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 2  # pixels drawn for one of the sheet
Colour = str
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the sheet, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def at(self, x: float, y: float) -> Point:
        """A point by its shares of the area: (0, 0) is the lower left corner."""
        return self.left + x * self.width, self.bottom - y * self.height


class Chart:
    """A picture that is being drawn."""

    def __init__(self, width: int, height: int, ground: Colour) -> None:
        self._image = Image.new("RGB", (width * FINE, height * FINE), ground)
        self._draw = ImageDraw.Draw(self._image)

    def picture(self) -> Image.Image:
        """What was drawn, at its size."""
        width, height = self._image.size
        return self._image.resize((width // FINE, height // FINE), Image.Resampling.LANCZOS)

    def text(self, at: Point, text: str, ink: Colour, size: float, anchor: str = "la") -> None:
        """Words; `anchor` as Pillow has it: l m r, then a m s d."""
        font = ImageFont.load_default(size * FINE)
        self._draw.text(_fine(at), text, ink, font, anchor=anchor)

    def text_width(self, text: str, size: float) -> float:
        return float(ImageFont.load_default(size * FINE).getlength(text)) / FINE

    def box(self, area: Area, fill: Colour, radius: float = 0) -> None:
        """A filled rectangle."""
        corners = [_fine((area.left, area.top)), _fine((area.right, area.bottom))]
        self._draw.rounded_rectangle(corners, radius * FINE, fill)

    def line(self, points: Sequence[Point], ink: Colour, width: float = 1) -> None:
        fine = [_fine(point) for point in points]
        self._draw.line(fine, ink, round(width * FINE), joint="curve")

    def filled(self, points: Sequence[Point], ink: Colour) -> None:
        """The inside of a polygon."""
        self._draw.polygon([_fine(point) for point in points], ink)

    def paste(self, picture: Image.Image, area: Area) -> None:
        """A picture, brought to the size of the area."""
        size = (round(area.width * FINE), round(area.height * FINE))
        left, top = _fine((area.left, area.top))
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        self._image.paste(resized, (round(left), round(top)))


def curve(area: Area, values: np.ndarray, low: float, high: float) -> list[Point]:
    """Values over the width of an area; what leaves it is held at its edge."""
    if len(values) == 1:
        values = np.repeat(values, 2)
    shares = np.clip((values - low) / (high - low), 0, 1)
    return [
        area.at(x, y)
        for x, y in zip(np.linspace(0, 1, len(values)), map(float, shares), strict=True)
    ]


def round_step(span: float, most: int) -> float:
    """A round distance of at most so many ticks over a span: 1, 2 or 5 times a power of ten."""
    rough = span / most
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.9999))


def _fine(point: Point) -> Point:
    return point[0] * FINE, point[1] * FINE
