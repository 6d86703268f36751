"""Draws the portrait that the demo animates: head and shoulders, frontal, mouth closed.

Everything is a smooth outline filled with one colour, or a blurred one laid over it as shading.
Lengths are thousandths of the picture's side, x to the right and y down; an outline is written as
its corner points "x,y x,y ...", a symmetric one as its right half from top to bottom.

    python -m infinitetalk.demo.portrait OUT.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Outline = list[tuple[float, float]]
Color = tuple[int, int, int]

SIZE = 512  # of the bundled picture
SUPERSAMPLING = 4  # Pillow draws hard edges; the downscale makes them smooth
SPLINE_STEPS = 24  # straight pieces between two corner points


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


BUNDLED = Look()


def draw_portrait(size: int, look: Look = BUNDLED) -> Image.Image:
    """The portrait as a square RGB picture with sides of `size` pixels."""
    canvas = _Canvas(size * SUPERSAMPLING, look.sky, look.ground)
    _draw_back_hair(canvas, look)
    _draw_shoulders(canvas, look)
    face = _draw_face(canvas, look)
    _draw_eyes(canvas, look)
    _draw_nose(canvas, face, look)
    _draw_mouth(canvas, look)
    _draw_front_hair(canvas, look)
    return canvas.picture.resize((size, size), Image.Resampling.LANCZOS)


class _Canvas:
    """A square picture that is painted in thousandths of its side."""

    def __init__(self, pixels: int, top: Color, bottom: Color) -> None:
        self.scale = pixels / 1000
        fade = np.linspace(0.0, 1.0, pixels)[:, None, None]
        rows = np.asarray(top) * (1 - fade) + np.asarray(bottom) * fade
        gradient = np.repeat(rows.round().astype(np.uint8), pixels, axis=1)
        self.picture = Image.fromarray(gradient)

    def fill(self, outline: Outline, color: Color) -> Image.Image:
        """Paints the outline's inside and returns it as a mask, for shading that stays within."""
        mask = self._mask(outline)
        self.picture.paste(color, mask=mask)
        return mask

    def shade(
        self, within: Image.Image, outline: Outline, color: Color, *, opacity: float, blur: float
    ) -> None:
        """Lays a soft, half transparent patch over what the mask `within` covers."""
        soft = self._mask(outline).filter(ImageFilter.GaussianBlur(blur * self.scale))
        soft = ImageChops.multiply(soft, within).point(lambda value: round(value * opacity))
        self.picture.paste(color, mask=soft)

    def _mask(self, outline: Outline) -> Image.Image:
        mask = Image.new("L", self.picture.size)
        points = [(x * self.scale, y * self.scale) for x, y in outline]
        ImageDraw.Draw(mask).polygon(points, fill=255)
        return mask


def _smooth(corners: str) -> Outline:
    """A closed curve through the corner points."""
    return _spline(_points(corners))


def _mirrored(right: str) -> Outline:
    """A closed curve through the corner points and their mirror images."""
    half = _points(right)
    return _spline([*half, *((1000 - x, y) for x, y in reversed(half) if x != 500)])


def _points(corners: str) -> Outline:
    pairs = (pair.split(",") for pair in corners.split())
    return [(float(x), float(y)) for x, y in pairs]


def _spline(corners: Outline) -> Outline:
    """Catmull-Rom: each piece starts and ends along the line between its neighbours."""
    p = np.asarray(corners)[:, None, :]
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0.0, 1.0, SPLINE_STEPS, endpoint=False)[None, :, None]
    square = 2 * before - 5 * p + 4 * after - beyond
    cube = 3 * (p - after) + beyond - before
    curve = p + t * (after - before + t * (square + t * cube)) / 2
    return [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]


def _ellipse(x: float, y: float, rx: float, ry: float) -> Outline:
    angles = np.linspace(0.0, 2 * np.pi, 96, endpoint=False)
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in angles]


def _flip(outline: Outline, side: int) -> Outline:
    """The outline itself for side 1, its mirror image for side -1."""
    return [(500 + side * (x - 500), y) for x, y in outline]


def _draw_back_hair(canvas: _Canvas, look: Look) -> None:
    right = "500,70 610,92 705,170 755,320 765,480 785,630 730,730 500,730"
    hair = canvas.fill(_mirrored(right), look.hair)
    canvas.shade(hair, _ellipse(500, 660, 170, 160), look.ink, opacity=0.8, blur=30)


def _draw_shoulders(canvas: _Canvas, look: Look) -> None:
    body = "500,800 600,815 740,860 850,930 900,1060 500,1100"
    shirt = canvas.fill(_mirrored(body), look.shirt)
    canvas.shade(shirt, _ellipse(500, 830, 170, 80), look.ink, opacity=0.35, blur=20)
    neck = "500,620 575,630 575,750 600,815 570,870 500,895"
    skin = canvas.fill(_mirrored(neck), look.skin)
    canvas.shade(skin, _ellipse(500, 700, 130, 75), look.shade, opacity=0.75, blur=20)


def _draw_face(canvas: _Canvas, look: Look) -> Image.Image:
    half = "500,150 610,180 685,300 695,450 675,575 610,690 500,740"
    face = canvas.fill(_mirrored(half), look.skin)
    canvas.shade(face, _ellipse(400, 330, 110, 120), look.white, opacity=0.22, blur=50)
    canvas.shade(face, _ellipse(720, 550, 60, 220), look.shade, opacity=0.5, blur=40)
    canvas.shade(face, _ellipse(500, 765, 130, 45), look.shade, opacity=0.4, blur=25)
    for side in (1, -1):
        cheek = _ellipse(500 + side * 115, 560, 40, 30)
        canvas.shade(face, cheek, look.blush, opacity=0.45, blur=22)
    return face


def _draw_eyes(canvas: _Canvas, look: Look) -> None:
    almond = _smooth("538,458 562,428 600,416 638,430 656,452 632,478 597,486 560,478")
    lid = _smooth("534,462 560,424 600,405 642,418 670,442 641,435 600,421 563,436")
    brow = _smooth("540,352 580,335 625,333 668,358 625,349 580,354 545,368")
    for side in (1, -1):
        white = canvas.fill(_flip(almond, side), look.white)
        x = 500 + side * 98
        canvas.shade(white, _ellipse(x, 451, 33, 33), look.iris, opacity=1, blur=1)
        canvas.shade(white, _ellipse(x, 451, 16, 16), look.ink, opacity=1, blur=1)
        canvas.shade(white, _ellipse(x, 423, 60, 12), look.ink, opacity=0.4, blur=6)
        canvas.fill(_ellipse(x - 11, 440, 8, 8), look.white)
        canvas.fill(_flip(lid, side), look.ink)
        canvas.fill(_flip(brow, side), look.hair)


def _draw_nose(canvas: _Canvas, face: Image.Image, look: Look) -> None:
    canvas.shade(face, _ellipse(522, 490, 10, 60), look.shade, opacity=0.35, blur=12)
    canvas.shade(face, _ellipse(495, 535, 16, 16), look.white, opacity=0.35, blur=10)
    under = _smooth("462,556 480,566 500,572 520,566 538,556 525,578 500,584 475,578")
    canvas.shade(face, under, look.shade, opacity=0.9, blur=4)


def _draw_mouth(canvas: _Canvas, look: Look) -> None:
    lips = "500,629 524,622 555,628 590,632 562,657 500,676"
    mouth = canvas.fill(_mirrored(lips), look.lips)
    upper = "500,610 560,600 600,631 550,646 500,649"
    canvas.shade(mouth, _mirrored(upper), look.ink, opacity=0.22, blur=3)
    canvas.shade(mouth, _ellipse(493, 662, 26, 5), look.white, opacity=0.45, blur=4)
    line = "500,647 540,643 597,628 542,647 500,651"
    canvas.fill(_mirrored(line), look.ink)


def _draw_front_hair(canvas: _Canvas, look: Look) -> None:
    right = "550,85 640,125 725,240 750,380 745,520 710,600 685,520 685,400 660,280 610,190 560,140"
    lock = canvas.fill(_smooth(right), look.hair)
    canvas.shade(lock, _ellipse(670, 220, 50, 20), look.shine, opacity=0.6, blur=15)
    left = "570,90 575,150 480,250 350,310 318,400 315,520 290,600 250,500 250,320 310,160 430,90"
    lock = canvas.fill(_smooth(left), look.hair)
    canvas.shade(lock, _ellipse(380, 210, 90, 22), look.shine, opacity=0.6, blur=15)


def main() -> None:
    draw_portrait(SIZE).save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
