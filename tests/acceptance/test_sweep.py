"""The grid of a sweep."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.acceptance.contact_sheet import corner
from infinitetalk.acceptance.sweep import CELL, GRIDS, SHEET, SWEEP_FRAMES, Grid, sweep
from infinitetalk.errors import GenerationDiverged
from infinitetalk.spec import PRESETS, GenerationSpec, check, specify
from tests.acceptance.subjects import MakeVideo

GRID = Grid(steps=(1, 2), shift=(3.0,), audio_guidance=(1.0, 2.0, 3.0))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_grid_of_clips_it_allows(preset: str) -> None:
    grid = GRIDS[preset]
    for steps, shift in grid.rows:
        for guidance in grid.audio_guidance:
            check(specify(preset, steps=steps, shift=shift, audio_guidance=guidance))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_does_by_itself_is_in_its_grid(preset: str) -> None:
    spec, grid = specify(preset), GRIDS[preset]
    assert (spec.steps, spec.shift) in grid.rows
    assert spec.audio_guidance in grid.audio_guidance


def test_a_clip_of_a_sweep_fits_into_one_window_of_the_released_model() -> None:
    assert PRESETS["standard"].window >= SWEEP_FRAMES


class Painter:
    """Renders clips that are grey in the middle, each in another level; one wish breaks it."""

    def __init__(self, make_video: MakeVideo) -> None:
        self._make_video = make_video
        self.wishes: list[tuple[int, float, float]] = []

    def __call__(self, spec: GenerationSpec, name: str) -> tuple[Path, float]:
        self.wishes.append((spec.steps, spec.shift, spec.audio_guidance))
        if (spec.steps, spec.audio_guidance) == (2, 3.0):
            raise GenerationDiverged("No picture.")
        frames = np.zeros((SWEEP_FRAMES, 48, 48, 3), np.uint8)
        frames[20:30] = 40 * len(self.wishes)
        return self._make_video(frames), 1.5


def test_the_sheet_has_a_cell_for_every_wish_and_grey_where_one_failed(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    painter = Painter(make_video)
    swept = sweep("tiny", GRID, painter, output)
    assert painter.wishes == [(s, 3.0, g) for s in (1, 2) for g in (1.0, 2.0, 3.0)]
    assert [(c.steps, c.shift, c.audio_guidance) for c in swept.cells] == painter.wishes
    assert not swept.verdict.passed and swept.verdict.detail.startswith("5 of 6 clips")
    assert swept.cells[-1].note == "No picture." and swept.cells[-1].video is None
    videos = {cell.video for cell in swept.cells[:-1]}
    assert {path.name for path in output.iterdir()} == {SHEET, *videos} and len(videos) == 5
    with Image.open(output / SHEET) as sheet:
        centres = [_centre(sheet, row, column) for row in (0, 1) for column in (0, 1, 2)]
    assert centres == pytest.approx([40, 80, 120, 160, 200, 211], abs=2)


def _centre(sheet: Image.Image, row: int, column: int) -> int:
    left, top = corner(row, column, CELL)
    level, *_ = sheet.getpixel((left + CELL[0] // 2, top + CELL[1] // 2))  # type: ignore[misc]
    return int(level)
