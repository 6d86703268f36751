"""A start by its parts, and when a process began."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.acceptance.start import PARTS, Part, Start, process_start, time_start
from infinitetalk.config import Settings
from infinitetalk.errors import WeightsMissing
from infinitetalk.runner import OnPart, Runner
from infinitetalk.spec import specify
from tests.acceptance.subjects import Ticks

TICK_S = 0.05  # the kernel notes starts in hundredths of a second


def test_every_part_is_timed_and_the_job_ends_with_its_first_step(
    settings: Settings, tmp_path: Path, ticks: Ticks
) -> None:
    def load(on_part: OnPart) -> Runner:
        return Runner.load("tiny", settings, on_part=on_part)

    spec, folder = specify("tiny", steps=3), tmp_path / "job"
    start = time_start(load, spec, settings, folder, ticks, started=-4.0)
    assert start.parts == (Part(PARTS[0], 5.0), *(Part(name, 1.0) for name in PARTS[1:]))
    assert not list((folder / "fragments").glob("*.m4s"))


def test_what_cannot_be_loaded_is_said(settings: Settings, tmp_path: Path, ticks: Ticks) -> None:
    missing = replace(settings, weights=tmp_path / "none")
    with pytest.raises(WeightsMissing):
        time_start(
            lambda on_part: Runner.load("standard", missing, on_part=on_part),
            specify("standard"),
            missing,
            tmp_path / "job",
            ticks,
            started=0.0,
        )


def test_the_first_step_comes_after_all_else() -> None:
    start = Start((Part("imports", 4.0), Part("weights", 2.0), Part("first_step", 1.0)))
    assert (start.until_first_step, start.seconds) == (6.0, 7.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes it in a file")
def test_the_kernel_says_when_a_process_began() -> None:
    before = time.monotonic()
    with subprocess.Popen(["sleep", "60"]) as process:
        after = time.monotonic()
        began = process_start(Path(f"/proc/{process.pid}/stat"))
        process.kill()
    assert before - TICK_S <= began <= after + TICK_S


def test_where_the_kernel_says_nothing_computing_counts(tmp_path: Path) -> None:
    spent = time.process_time()
    now = time.monotonic()
    assert process_start(tmp_path / "stat") == pytest.approx(now - spent, abs=1.0)
