"""The acceptance run as a whole, with the tiny model on the CPU."""

import datetime
import os
import time
from pathlib import Path

import pytest
import torch

from infinitetalk import __version__
from infinitetalk.acceptance.loading import choose
from infinitetalk.acceptance.report import Report, from_json, to_json
from infinitetalk.acceptance.run import VIDEO, Plan, accept
from infinitetalk.acceptance.sweep import GRIDS, SHEET
from infinitetalk.config import Settings
from infinitetalk.errors import WeightsMissing
from tests.acceptance.subjects import CPU, poison

STEPS = ["load", "render", "format", "length", "sound in sync", "picture", "weights"]
INSIDE = ["forward", "attention"]
DATE = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)


def run(settings: Settings, output: Path, **plan: object) -> Report:
    output.mkdir()
    return accept(
        Plan("tiny", **{"seconds": 1.0, **plan}),  # type: ignore[arg-type]
        settings,
        output,
        started=time.monotonic(),
        price_per_second=0.001,
        now=lambda: DATE,
    )


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """A whole run, and its folder."""
    home, output = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("run") / "output"
    return run(Settings(home=home), output, seconds=2.0, with_sweep=True), output


def value(report: Report, name: str) -> float:
    return next(figure.value for figure in report.figures if figure.name == name)


def verdicts(report: Report) -> dict[str, bool]:
    return {check.name: check.passed for check in report.checks}


def test_a_good_machine_passes_every_check(accepted: tuple[Report, Path]) -> None:
    assert verdicts(accepted[0]) == dict.fromkeys([*STEPS, *INSIDE, "sweep"], True)


def test_the_report_says_what_was_run(accepted: tuple[Report, Path]) -> None:
    report, _ = accepted
    assert (report.date, report.engine) == ("2026-11-23T00:00:00+00:00", __version__)
    assert (report.preset, report.resolution) == ("tiny", "48p")
    assert report.torch == torch.__version__ and report.device.startswith("CPU")
    assert report.weights.startswith("tiny-") and len(report.fingerprint) == 64


def test_figures_fit_each_other(accepted: tuple[Report, Path]) -> None:
    report, _ = accepted
    assert value(report, "video") == 2.0
    assert value(report, "cold_start") > value(report, "loaded_after") > 0
    per_second = value(report, "gpu_s_per_video_s")
    assert value(report, "render") == pytest.approx(2 * per_second)
    assert value(report, "usd_per_video_minute") == pytest.approx(per_second * 60 * 0.001)
    assert value(report, "peak_host_memory") > 0.1
    assert "peak_device_memory" not in {figure.name for figure in report.figures}


def test_the_clip_and_the_sweep_are_kept(accepted: tuple[Report, Path]) -> None:
    report, output = accepted
    grid = GRIDS["tiny"]
    assert len(report.sweep) == len(grid.rows) * len(grid.audio_guidance)
    videos = [str(cell.video) for cell in report.sweep]
    assert {path.name for path in output.iterdir()} == {VIDEO, SHEET, *videos}


def test_the_report_is_the_same_after_json(accepted: tuple[Report, Path]) -> None:
    assert from_json(to_json(accepted[0])) == accepted[0]


def test_a_nan_in_the_weights_fails_the_render_and_nothing_hides_it(
    settings: Settings, tmp_path: Path
) -> None:
    poison(settings)
    report = run(settings, tmp_path / "output")
    details = {check.name: check.detail for check in report.failed}
    assert details.keys() == {"render", "forward"}
    assert details["render"].endswith("(generation_diverged)")
    assert verdicts(report).keys() == {"load", "render", "weights", *INSIDE}


@pytest.mark.parametrize("was_noted", [False, True], ids=["new", "noted as right before"])
def test_altered_weights_fail_and_their_file_is_named(
    settings: Settings, tmp_path: Path, was_noted: bool
) -> None:
    folder = choose("tiny", settings, CPU).folder
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    if was_noted:
        run(settings, tmp_path / "before")
    altered = folder / "vae.safetensors"
    data = altered.read_bytes()
    altered.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(altered, (1e9, 1e9))
    report = run(settings, tmp_path / "output")
    found = {check.name: check.detail for check in report.failed}
    assert found.keys() == ({"weights"} if was_noted else {"load", "weights"})
    assert "vae.safetensors is altered" in found["weights"]


def test_a_length_between_two_frames_is_rounded(settings: Settings, tmp_path: Path) -> None:
    report = run(settings, tmp_path / "output", seconds=0.5)
    assert value(report, "video") == 12 / 25
    assert verdicts(report)["length"]


def test_without_weights_there_is_nothing_to_accept(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="weights prepare --preset standard"):
        accept(Plan("standard"), settings, tmp_path, started=0.0)
