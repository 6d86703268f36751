"""Queue depth and latency over the time of a run, as one PNG; drawn with Pillow.

Two panels share the time axis: above the jobs that wait and run, below one dot for every journey
at the moment it ended, a cross where it failed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from loadtest.journeys import Journey
from loadtest.queue_watch import Depth

SIZE = (1200, 800)
INK, GRID, PAPER = "#222222", "#dddddd", "#ffffff"
WAITING, RUNNING = "#d95f02", "#1b9e77"
TOTAL, SUBMIT, FAILED = "#1f77b4", "#999999", "#d62728"
TICKS = 6
MIN_JOBS = 4  # on the axis, so that its ticks are whole jobs

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

Point = tuple[float, float]


def draw_run(path: Path, depths: Sequence[Depth], journeys: Sequence[Journey]) -> None:
    """Write the picture of a run."""
    moments = [depth.at for depth in depths] + [journey.started_at for journey in journeys]
    start = min(moments, default=0.0)
    end = max([*moments, *(journey.ended_at for journey in journeys)], default=start)
    picture = Image.new("RGB", SIZE, PAPER)
    canvas = ImageDraw.Draw(picture)
    _draw_queue(canvas, depths, start, end)
    _draw_latency(canvas, journeys, start, end)
    picture.save(path)


def _draw_queue(
    canvas: ImageDraw.ImageDraw, depths: Sequence[Depth], start: float, end: float
) -> None:
    highest = max([MIN_JOBS, *(max(depth.pending, depth.in_progress) for depth in depths)])
    panel = Panel(canvas, (90, 60, 1170, 370), end - start, highest, "jobs")
    panel.axes({"waiting": WAITING, "running": RUNNING})
    panel.steps([(depth.at - start, depth.pending) for depth in depths], WAITING)
    panel.steps([(depth.at - start, depth.in_progress) for depth in depths], RUNNING)


def _draw_latency(
    canvas: ImageDraw.ImageDraw, journeys: Sequence[Journey], start: float, end: float
) -> None:
    highest = max((journey.total_s for journey in journeys), default=1.0)
    panel = Panel(canvas, (90, 440, 1170, 740), end - start, highest, "seconds")
    panel.axes({"end-to-end": TOTAL, "submit": SUBMIT, "failed": FAILED}, "seconds since the start")
    for journey in journeys:
        x = journey.ended_at - start
        if journey.submit_s is not None:
            panel.dot((x, journey.submit_s), SUBMIT)
        if journey.failure:
            panel.cross((x, journey.total_s), FAILED)
        else:
            panel.dot((x, journey.total_s), TOTAL)


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle with axes; x runs from 0 to `x_end`, y from 0 to a little above `y_highest`."""

    canvas: ImageDraw.ImageDraw
    box: Box
    x_end: float
    y_highest: float
    y_name: str

    def axes(self, legend: dict[str, str], x_name: str = "") -> None:
        left, top, right, bottom = self.box
        for y in ticks(self.y_highest):
            _, pixel = self._pixel((0, y))
            self.canvas.line([(left, pixel), (right, pixel)], GRID)
            self._text((left - 10, pixel), f"{y:g}", "rm")
        for x in ticks(self.x_end)[:-1]:
            pixel, _ = self._pixel((x, 0))
            self.canvas.line([(pixel, top), (pixel, bottom)], GRID)
            self._text((pixel, bottom + 8), f"{x:g}", "ma")
        self.canvas.rectangle(self.box, outline=INK)
        self._text((left, top - 24), self.y_name, "lm")
        self._text(((left + right) / 2, bottom + 30), x_name, "ma")
        for place, (name, colour) in enumerate(legend.items()):
            self._text((right - 120 * place, top - 24), name, "rm", colour)

    def steps(self, points: Sequence[Point], colour: str) -> None:
        """A line that keeps each value until the next."""
        corners: list[Point] = []
        for x, y in points:
            if corners:
                corners.append((self._pixel((x, y))[0], corners[-1][1]))
            corners.append(self._pixel((x, y)))
        if len(corners) > 1:
            self.canvas.line(corners, colour, width=3)

    def dot(self, point: Point, colour: str) -> None:
        x, y = self._pixel(point)
        self.canvas.ellipse([x - 3, y - 3, x + 3, y + 3], colour)

    def cross(self, point: Point, colour: str) -> None:
        x, y = self._pixel(point)
        self.canvas.line([(x - 5, y - 5), (x + 5, y + 5)], colour, width=3)
        self.canvas.line([(x - 5, y + 5), (x + 5, y - 5)], colour, width=3)

    def _pixel(self, point: Point) -> Point:
        left, top, right, bottom = self.box
        x = left + (right - left) * point[0] / max(self.x_end, 1e-9)
        y = bottom - (bottom - top) * point[1] / max(ticks(self.y_highest)[-1], 1e-9)
        return x, y

    def _text(self, place: Point, text: str, anchor: str, colour: str = INK) -> None:
        self.canvas.text(place, text, colour, ImageFont.load_default(18), anchor)


def ticks(highest: float) -> list[float]:
    """About `TICKS` round numbers from 0 to at least `highest`."""
    rough = max(highest, 1e-6) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]
