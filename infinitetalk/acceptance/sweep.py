"""A small grid of steps, shift and audio guidance, rendered as the same clip and shown on a sheet.

What looks best is for a person to say; nothing here judges.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from PIL import Image

from infinitetalk.acceptance.contact_sheet import contact_sheet
from infinitetalk.acceptance.report import Cell, Figure, Verdict
from infinitetalk.errors import RenderFailed
from infinitetalk.media.video import VideoFrames
from infinitetalk.spec import GenerationSpec, specify

SWEEP_FRAMES = 50  # of each clip: one window of the released model
SHEET = "sweep.png"
CELL = (256, 256)  # pixels
MAX_MEGAPIXELS = 9.0

Render = Callable[[GenerationSpec, str], tuple[Path, float]]
"""(spec, name) -> the finished video and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination is a clip: steps and shift make the rows, audio guidance the columns."""

    steps: tuple[int, ...]
    shift: tuple[float, ...]
    audio_guidance: tuple[float, ...]

    @property
    def rows(self) -> tuple[tuple[int, float], ...]:
        return tuple(product(self.steps, self.shift))


GRIDS: Mapping[str, Grid] = {
    "fast": Grid((4, 6, 8), (2.0, 5.0), (1.0, 2.0)),
    "standard": Grid((4, 6, 8), (2.0, 5.0), (1.0, 2.0, 3.0)),
    "best": Grid((20, 40), (7.0,), (3.0, 4.0, 5.0)),  # a clip is 120 forwards
    "demo": Grid((4, 6, 8), (3.0,), (1.0, 2.0, 3.0)),
    "tiny": Grid((1, 2), (3.0,), (1.0, 2.0)),
}


@dataclass(frozen=True, slots=True)
class Sweep:
    """The clips of a grid, row by row."""

    cells: tuple[Cell, ...]

    @property
    def verdict(self) -> Verdict:
        done = sum(cell.video is not None for cell in self.cells)
        return Verdict(done == len(self.cells), f"{done} of {len(self.cells)} clips, see {SHEET}")

    @property
    def figures(self) -> tuple[Figure, ...]:
        return ()  # the cells are a table of their own


def sweep(preset: str, grid: Grid, render: Render, output: Path) -> Sweep:
    """Render the grid; videos and the sheet go to `output`.

    A clip that cannot be rendered leaves its cell grey.
    """
    wishes = product(grid.rows, grid.audio_guidance)
    cells = tuple(_render(preset, *row, guidance, render, output) for row, guidance in wishes)
    _draw(grid, cells, output).save(output / SHEET)
    return Sweep(cells)


def _render(
    preset: str, steps: int, shift: float, guidance: float, render: Render, output: Path
) -> Cell:
    name = f"sweep-steps{steps}-shift{shift:g}-audio{guidance:g}"
    spec = specify(preset, steps=steps, audio_guidance=guidance, shift=shift)
    try:
        video, seconds = render(spec, name)
    except RenderFailed as error:
        return Cell(steps, guidance, shift, note=error.message)
    target = output / f"{name}.mp4"
    shutil.move(video, target)
    return Cell(steps, guidance, shift, seconds, target.name)


def _draw(grid: Grid, cells: tuple[Cell, ...], output: Path) -> Image.Image:
    width = len(grid.audio_guidance)
    pictures = [_middle(output / cell.video) if cell.video else None for cell in cells]
    rows = [pictures[start : start + width] for start in range(0, len(pictures), width)]
    labels = [f"steps {steps}, shift {shift:g}" for steps, shift in grid.rows]
    columns = [f"audio guidance {guidance:g}" for guidance in grid.audio_guidance]
    return contact_sheet(rows, labels, columns, CELL)


def _middle(video: Path) -> Image.Image:
    """The frame in the middle of a clip."""
    with VideoFrames(video, max_megapixels=MAX_MEGAPIXELS) as frames:
        return Image.fromarray(frames.frame(SWEEP_FRAMES // 2))
