"""Draws the portrait that the demo animates: head and shoulders, frontal, mouth closed.

Everything is a smooth outline filled with one colour, or a blurred one laid over it as shading.
Coordinates are fractions of the picture's side, x to the right and y down.

    python -m infinitetalk.demo.portrait OUT.png
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Point = tuple[float, float]
Outline = list[Point]
Color = tuple[int, int, int]

SIZE = 512  # of the bundled picture
SUPERSAMPLING = 4  # Pillow draws hard edges; the downscale makes them smooth
SPLINE_STEPS = 24  # points between two given ones of an outline


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of one person."""

    sky: Color = (233, 240, 243)
    ground: Color = (158, 190, 204)
    shirt: Color = (226, 138, 84)
    skin: Color = (241, 194, 160)
    blush: Color = (226, 112, 98)
    shade: Color = (168, 96, 74)
    hair: Color = (74, 44, 36)
    shine: Color = (146, 92, 66)
    iris: Color = (72, 112, 84)
    lips: Color = (196, 84, 84)
    ink: Color = (52, 30, 28)
    white: Color = (252, 250, 247)


def draw_portrait(size: int, look: Look | None = None) -> Image.Image:
    """The portrait as a square RGB picture with sides of `size` pixels."""
    look = Look() if look is None else look
    canvas = _Canvas(size * SUPERSAMPLING, look.sky, look.ground)
    _draw_back_hair(canvas, look)
    _draw_shoulders(canvas, look)
    _draw_head(canvas, look)
    _draw_eyes(canvas, look)
    _draw_nose(canvas, look)
    _draw_mouth(canvas, look)
    _draw_front_hair(canvas, look)
    return canvas.picture.resize((size, size), Image.Resampling.LANCZOS)


class _Canvas:
    """A square picture that takes coordinates as fractions of its side."""

    def __init__(self, side: int, top: Color, bottom: Color) -> None:
        self.side = side
        fade = np.linspace(0.0, 1.0, side)[:, None, None]
        rows = np.asarray(top) * (1 - fade) + np.asarray(bottom) * fade
        pixels = np.broadcast_to(rows.round().astype(np.uint8), (side, side, 3))
        self.picture = Image.fromarray(np.ascontiguousarray(pixels))

    def fill(self, outline: Outline, color: Color) -> Image.Image:
        """Paints inside the outline and returns its mask, for shading to stay within."""
        mask = self.mask(outline)
        self.picture.paste(color, mask=mask)
        return mask

    def shade(
        self, outline: Outline, color: Color, opacity: float, blur: float, within: Image.Image
    ) -> None:
        """Lays a soft, half transparent patch over what is there, inside `within`."""
        soft = self.mask(outline).filter(ImageFilter.GaussianBlur(blur * self.side))
        soft = ImageChops.multiply(soft, within).point(lambda value: round(value * opacity))
        self.picture.paste(color, mask=soft)

    def mask(self, outline: Outline) -> Image.Image:
        mask = Image.new("L", self.picture.size)
        points = [(x * self.side, y * self.side) for x, y in outline]
        ImageDraw.Draw(mask).polygon(points, fill=255)
        return mask


def _smooth(corners: Iterable[Point]) -> Outline:
    """A closed Catmull-Rom curve through the given points."""
    p1 = np.asarray(list(corners))
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = np.linspace(0.0, 1.0, SPLINE_STEPS, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = p1 + 0.5 * t * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    return [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]


def _mirrored(right: Outline) -> Outline:
    """A symmetric shape from its right half, given from top to bottom."""
    return _smooth([*right, *((1 - x, y) for x, y in reversed(right) if x != 0.5)])


def _ellipse(x: float, y: float, rx: float, ry: float) -> Outline:
    angle = np.linspace(0.0, 2 * np.pi, 96, endpoint=False)
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in angle]


def _flip(outline: Outline, side: int) -> Outline:
    """The outline itself for side 1, its mirror image for side -1."""
    return [(0.5 + side * (x - 0.5), y) for x, y in outline]


def _draw_back_hair(canvas: _Canvas, look: Look) -> None:
    right = [(0.5, 0.07), (0.61, 0.092), (0.705, 0.17), (0.755, 0.32), (0.765, 0.48), (0.785, 0.63), (0.73, 0.73), (0.5, 0.73)]
    hair = canvas.fill(_mirrored(right), look.hair)
    canvas.shade(_ellipse(0.5, 0.66, 0.17, 0.16), look.ink, 0.8, 0.03, hair)


def _draw_shoulders(canvas: _Canvas, look: Look) -> None:
    body = [(0.5, 0.80), (0.60, 0.815), (0.74, 0.86), (0.85, 0.93), (0.90, 1.06), (0.5, 1.1)]
    shirt = canvas.fill(_mirrored(body), look.shirt)
    canvas.shade(_ellipse(0.5, 0.83, 0.17, 0.08), look.ink, 0.35, 0.02, shirt)
    neck = [(0.5, 0.62), (0.575, 0.63), (0.575, 0.75), (0.60, 0.815), (0.57, 0.87), (0.5, 0.895)]
    skin = canvas.fill(_mirrored(neck), look.skin)
    canvas.shade(_ellipse(0.5, 0.70, 0.13, 0.075), look.shade, 0.75, 0.02, skin)


def _draw_head(canvas: _Canvas, look: Look) -> None:
    half = [(0.5, 0.15), (0.61, 0.18), (0.685, 0.30), (0.695, 0.45), (0.675, 0.575), (0.61, 0.69), (0.5, 0.74)]
    face = canvas.fill(_mirrored(half), look.skin)
    canvas.shade(_ellipse(0.40, 0.33, 0.11, 0.12), look.white, 0.22, 0.05, face)
    canvas.shade(_ellipse(0.72, 0.55, 0.06, 0.22), look.shade, 0.5, 0.04, face)
    canvas.shade(_ellipse(0.5, 0.765, 0.13, 0.045), look.shade, 0.4, 0.025, face)
    for side in (1, -1):
        canvas.shade(_flip(_ellipse(0.615, 0.56, 0.04, 0.03), side), look.blush, 0.45, 0.022, face)


def _draw_eyes(canvas: _Canvas, look: Look) -> None:
    almond = _smooth([(0.538, 0.458), (0.562, 0.428), (0.60, 0.416), (0.638, 0.430), (0.656, 0.452), (0.632, 0.478), (0.597, 0.486), (0.56, 0.478)])
    lid = _smooth([(0.534, 0.462), (0.560, 0.424), (0.60, 0.405), (0.642, 0.418), (0.670, 0.442), (0.641, 0.435), (0.60, 0.421), (0.563, 0.436)])
    brow = _smooth([(0.540, 0.352), (0.58, 0.335), (0.625, 0.333), (0.668, 0.358), (0.625, 0.349), (0.58, 0.354), (0.545, 0.368)])
    for side in (1, -1):
        white = canvas.fill(_flip(almond, side), look.white)
        x = 0.5 + side * 0.098
        canvas.shade(_ellipse(x, 0.451, 0.033, 0.033), look.iris, 1.0, 0.001, white)
        canvas.shade(_ellipse(x, 0.451, 0.016, 0.016), look.ink, 1.0, 0.001, white)
        canvas.shade(_ellipse(x, 0.423, 0.06, 0.012), look.ink, 0.4, 0.006, white)
        canvas.fill(_ellipse(x - 0.011, 0.440, 0.008, 0.008), look.white)
        canvas.fill(_flip(lid, side), look.ink)
        canvas.fill(_flip(brow, side), look.hair)


def _draw_nose(canvas: _Canvas, look: Look) -> None:
    everywhere = Image.new("L", canvas.picture.size, 255)
    canvas.shade(_ellipse(0.522, 0.49, 0.010, 0.06), look.shade, 0.35, 0.012, everywhere)
    canvas.shade(_ellipse(0.495, 0.535, 0.016, 0.016), look.white, 0.35, 0.010, everywhere)
    under = _smooth([(0.462, 0.556), (0.48, 0.566), (0.5, 0.572), (0.52, 0.566), (0.538, 0.556), (0.525, 0.578), (0.5, 0.584), (0.475, 0.578)])
    canvas.shade(under, look.shade, 0.9, 0.004, everywhere)


def _draw_mouth(canvas: _Canvas, look: Look) -> None:
    lips = [(0.5, 0.629), (0.524, 0.622), (0.555, 0.628), (0.590, 0.632), (0.562, 0.657), (0.5, 0.676)]
    mouth = canvas.fill(_mirrored(lips), look.lips)
    upper = [(0.5, 0.61), (0.56, 0.60), (0.60, 0.631), (0.55, 0.646), (0.5, 0.649)]
    canvas.shade(_mirrored(upper), look.ink, 0.22, 0.003, mouth)
    canvas.shade(_ellipse(0.493, 0.662, 0.026, 0.005), look.white, 0.45, 0.004, mouth)
    line = [(0.5, 0.6465), (0.54, 0.643), (0.597, 0.628), (0.542, 0.648), (0.5, 0.652)]
    canvas.fill(_mirrored(line), look.ink)


def _draw_front_hair(canvas: _Canvas, look: Look) -> None:
    left = _smooth([(0.57, 0.09), (0.575, 0.15), (0.48, 0.25), (0.35, 0.31), (0.318, 0.40), (0.315, 0.52), (0.29, 0.60), (0.25, 0.50), (0.25, 0.32), (0.31, 0.16), (0.43, 0.09)])
    right = _smooth([(0.55, 0.085), (0.64, 0.125), (0.725, 0.24), (0.75, 0.38), (0.745, 0.52), (0.71, 0.60), (0.685, 0.52), (0.685, 0.40), (0.66, 0.28), (0.61, 0.19), (0.56, 0.14)])
    for lock, shine in ((right, _ellipse(0.67, 0.22, 0.05, 0.02)), (left, _ellipse(0.38, 0.21, 0.09, 0.022))):
        hair = canvas.fill(lock, look.hair)
        canvas.shade(shine, look.shine, 0.6, 0.015, hair)


def main() -> None:
    draw_portrait(SIZE).save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
