"""What is told of a job of a service."""

import io
from typing import Any

import pytest
from rich.console import Console

from infinitetalk.cli.task_bar import TaskBar

PENDING = {"status": "pending", "queue_position": 2, "eta_s": 61.0}
RUNNING = {
    "status": "in_progress",
    "stage": "denoising",
    "window": 2,
    "windows": 3,
    "step": 4,
    "steps": 8,
    "skipped_steps": 0,
    "progress": 0.5,
    "eta_s": 59.6,
}


def _shown(*moments: dict[str, Any], terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with TaskBar(console) as bar:
        for moment in moments:
            bar.status(moment)
    return file.getvalue()


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        (PENDING, "number 2 in the queue, done in about 1:01"),
        ({**PENDING, "eta_s": None}, "number 2 in the queue"),
        (RUNNING, "denoising, window 2 of 3, step 4 of 8, 1:00 to go"),
        ({**RUNNING, "stage": "preparing", "window": 0, "eta_s": None}, "preparing"),
    ],
)
def test_a_terminal_shows_place_stage_window_step_and_time(
    moment: dict[str, Any], says: str
) -> None:
    said = _shown(moment, terminal=True)
    assert says in said
    assert f"{moment.get('progress', 0):.0%}" in said


def test_without_a_terminal_only_news_are_lines() -> None:
    closer = {**PENDING, "queue_position": 1}
    done = {"status": "completed"}
    said = _shown(PENDING, PENDING, closer, RUNNING, RUNNING, done, terminal=False)
    assert said.split("\n") == [
        "number 2 in the queue",
        "number 1 in the queue",
        "window 2 of 3",
        "",
    ]


def test_transfers_are_shown_with_their_size() -> None:
    file = io.StringIO()
    with TaskBar(Console(file=file, force_terminal=True, width=100, color_system=None)) as bar:
        bar.uploading(1, 2_500_000)
        bar.downloading(2_500_000, 2_500_000)
        bar.uploading(0, 0)
    assert "downloading 2.5 MB" in file.getvalue() or "uploading 0.0 MB" in file.getvalue()
