"""What the benchmarks of the full-size model compute from what they measure, and its stand-in."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import StepWatch, frames_of
from benchmarks.job import job_rows, seconds_of, steady_window
from benchmarks.random_model import draw, drawing
from benchmarks.start import rows
from benchmarks.window import Windows, stages_of
from benchmarks.window_error import compare
from infinitetalk.acceptance.clip import Clip
from infinitetalk.acceptance.start import FIRST_STEP, PARTS
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.models.float8 import Float8Linear, dequantize
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import Loading, Result
from infinitetalk.spec import specify
from infinitetalk.weights.load import Model

CPU = torch.device("cpu")
CLIP = Clip(
    job=JobFolder(Path("job")),
    result=Result(Path("job/result.mp4"), frames=250, windows=4, resumed_at=0),
    seconds=50.0,
    first_step_s=4.0,
    stages={Stage.ENCODING: 6.0, Stage.DENOISING: 40.0, Stage.DECODING: 4.0},
    windows=(14.0, 10.0, 10.5, 12.0),
    attempts=4,
    forwards=16,
)


def test_a_long_job_has_one_first_window_and_many_steady_ones() -> None:
    assert steady_window(CLIP) == pytest.approx(10.25)
    assert seconds_of(CLIP, 1) == pytest.approx(3.5 + 14.0)
    assert seconds_of(CLIP, 21) == pytest.approx(3.5 + 14.0 + 20 * 10.25)
    two_windows = replace(CLIP, windows=(14.0, 10.0))
    assert steady_window(two_windows) == 10.0


def test_the_row_of_a_job_tells_what_was_not_spent_in_the_transformer() -> None:
    measured, computed = job_rows(specify("standard"), CLIP)
    assert measured[:4] == ("10", "4", "50.0", "5.00")
    assert measured[6:8] == ("2.500", "20.0%")
    assert computed[:4] == ("(60)", "21", "222.5", "3.71")
    assert computed[7] == f"{1 - 210 / 222.5:.1%}"
    shorter = replace(CLIP, result=replace(CLIP.result, frames=225))
    assert [row[0] for row in job_rows(specify("standard"), shorter)] == ["9", "(10)", "(60)"]


def test_windows_are_put_together_for_all_steps_of_their_preset() -> None:
    first = {Stage.ENCODING: 3.0, Stage.DENOISING: 12.5, Stage.DECODING: 1.0}
    steady = {Stage.ENCODING: 0.5, Stage.DENOISING: 12.0, Stage.DECODING: 1.5}
    cells = Windows(replace(specify("standard"), steps=2), first, steady).cells
    assert cells[:3] == ("standard", "2 of 8", "2")
    assert cells[3:] == ("3.000", "48.00", "0.50", "1.50", "52.00", "50.00", "4.0%")


def test_stages_before_the_first_window_are_its_own() -> None:
    events = [
        (0.0, Progress(Stage.ENCODING)),
        (1.0, Progress(Stage.ENCODING, window=1)),
        (3.0, Progress(Stage.DENOISING, window=1)),
        (8.0, Progress(Stage.DECODING, window=1)),
        (9.0, Progress(Stage.ENCODING, window=2)),
        (9.5, Progress(Stage.DENOISING, window=2)),
    ]
    first, second = stages_of(events, ended=15.0)
    assert first == {Stage.ENCODING: 3.0, Stage.DENOISING: 5.0, Stage.DECODING: 1.0}
    assert second == {Stage.ENCODING: 0.5, Stage.DENOISING: 5.5}


def test_the_steps_are_watched_from_the_first_cancel_check_to_the_decoding(
    tiny_model: Model,
) -> None:
    told: list[str] = []
    watch = StepWatch(told.append)
    spec = specify("tiny", steps=3)
    assert len(frames_of(InfiniteTalkPipeline(tiny_model), spec, watch)) == 61
    changes = [mode for mode, _ in groupby(told)]
    assert changes == ["default", "warn"] * 2 + ["default"]
    assert told.count("warn") == 2 * 3


def test_two_starts_are_compared_part_by_part_and_to_the_first_step() -> None:
    cold = dict.fromkeys(PARTS, 6.0)
    warm = {**dict.fromkeys(PARTS, 2.0), FIRST_STEP: 6.0}
    *parts, until, end = rows(cold, warm)
    assert [row[0] for row in parts] == [name.replace("_", " ") for name in PARTS]
    assert until == ("to the first step", "36.00", "12.00", "3.0")
    assert end == ("to its end", "42.00", "18.00", "2.3")


def test_a_model_is_drawn_with_the_same_numbers_in_8_bits(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    exact, _ = draw("tiny", settings, CPU)
    rounded, located = draw("tiny", replace(settings, precision="fp8"), CPU)
    assert located.manifest.precision == "fp8"
    layer, other = (m.transformer.blocks[1].ffn[0] for m in (exact, rounded))
    assert isinstance(layer, torch.nn.Linear) and isinstance(other, Float8Linear)
    back = dequantize(other.weight_float8, other.weight_scale)
    assert torch.allclose(back, layer.weight, rtol=0.07, atol=0.01 * layer.weight.abs().max())


def test_a_drawn_model_tells_of_its_parts_and_can_run(tmp_path: Path) -> None:
    parts: list[Loading] = []
    runner = drawing("tiny", Settings(home=tmp_path), CPU)(parts.append)
    assert parts == list(Loading)
    assert (runner.preset, runner.resolutions) == ("tiny", ("48p",))


def test_errors_of_a_window_grow_as_arithmetic_gets_coarser(tmp_path: Path) -> None:
    model, _ = draw("tiny", Settings(home=tmp_path), CPU)
    networks = {
        "transformer": model.transformer,
        "vae": model.vae,
        "image_encoder": model.image_encoder,
    }
    with torch.inference_mode():
        found = list(compare(networks, [replace(specify("tiny"), steps=1)], (48, 48)))
    assert [row[2] for row in found] == ["bf16", "fp8"]
    latents = [float(row[3].rstrip("%")) for row in found]
    assert 0 < latents[0] < latents[1] < 10
    psnr = [float(row[4].removesuffix(" dB")) for row in found]
    assert psnr[0] > psnr[1] > 20
