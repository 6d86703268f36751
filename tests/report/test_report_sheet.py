"""The sheet: everything is on it, whatever is missing."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from infinitetalk.report.chart import round_step
from infinitetalk.report.measure import Measurements
from infinitetalk.report.numbers import numbers_of
from infinitetalk.report.sheet import BLUE, MOUTHS, RED, STAGES, VOICE, WIDTH, draw_sheet

STAGE_SECONDS = {"encoding": 1.0, "denoising": 3.0}


def drawn(measured: Measurements, stages: dict[str, float] | None = None) -> Image.Image:
    return draw_sheet(measured, numbers_of(measured, stages))


def share_of(sheet: Image.Image, colour: str) -> float:
    """How much of the sheet has this colour, about; lines have soft edges."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    away = np.abs(np.asarray(sheet).astype(int) - wanted).max(axis=-1)
    return float((away < 16).mean())


def test_voice_mouth_colours_and_stages_are_drawn(measured: Measurements) -> None:
    sheet = drawn(measured, STAGE_SECONDS)
    assert sheet.width == WIDTH
    assert all(share_of(sheet, ink) > 1e-4 for ink in (VOICE, MOUTHS[0], RED, BLUE))
    first, second = (share_of(sheet, ink) for ink in STAGES[:2])
    assert second == pytest.approx(3 * first, rel=0.3)  # as long as they took


def test_a_sheet_of_little_is_drawn_too(measured: Measurements) -> None:
    one = replace(
        measured,
        loudness=None,
        wave=None,
        motion=(np.zeros(1), np.zeros(1)),
        colour=measured.colour[:1],
        strip=measured.strip[:1],
        height=900,
        width=500,
    )
    assert share_of(drawn(one), MOUTHS[1]) > 0


@pytest.mark.parametrize(
    ("span", "step"), [(0.04, 0.005), (1, 0.1), (4.7, 0.5), (14, 1), (60, 5), (3600, 500)]
)
def test_the_time_line_has_round_ticks(span: float, step: float) -> None:
    assert round_step(span, 14) == pytest.approx(step)
