"""When a deployment compiles, and what it does where it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from infinitetalk.compile_cache import cache_name
from infinitetalk.config import Settings
from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.errors import CompilerUnavailable
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import Runner, compile_pipeline, is_compiling
from infinitetalk.spec import specify
from infinitetalk.weights.device_memory import Memory
from infinitetalk.weights.load import Model
from infinitetalk.weights.locate import Located
from infinitetalk.weights.memory_plan import MemoryPlan
from infinitetalk.weights.text_placement import TextPlacement


@pytest.fixture
def settings(tmp_path: Path, no_kernel_folders: None) -> Settings:
    """Of a home of its own."""
    torch._dynamo.reset()
    return Settings(home=tmp_path)


def no_compiler(*_: object) -> Callable[..., Any]:
    raise RuntimeError("no C compiler")


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [
        ("auto", "cuda", True),
        ("auto", "cpu", False),
        ("on", "cpu", True),
        ("off", "cuda", False),
    ],
)
def test_a_gpu_compiles_unless_told_otherwise(choice: str, device: str, expected: bool) -> None:
    assert is_compiling(choice, torch.device(device)) == expected


def test_without_a_compiler_it_goes_on_and_says_why(
    tiny_model: Model, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    compile_pipeline(InfiniteTalkPipeline(tiny_model), "tiny", settings, no_compiler)
    assert "cannot be compiled on this machine" in caplog.text
    assert "no C compiler" in caplog.text


def test_a_compiler_that_is_demanded_has_to_be_there(tiny_model: Model, settings: Settings) -> None:
    demanding = replace(settings, compile="on")
    with pytest.raises(CompilerUnavailable):
        compile_pipeline(InfiniteTalkPipeline(tiny_model), "tiny", demanding, no_compiler)


def test_kernels_are_kept_in_the_home_of_the_deployment(
    tiny_model: Model, settings: Settings
) -> None:
    compile_pipeline(InfiniteTalkPipeline(tiny_model), "tiny", settings, no_compiler)
    (kept,) = (settings.home / "compiled").iterdir()
    assert kept.name == cache_name(torch.device("cpu"))


def test_what_was_counted_while_rendering_is_told_at_the_end(
    load_tiny: Callable[[], Model], tmp_path: Path, make_track: Callable[..., Path]
) -> None:
    model, free = load_tiny(), Memory(0, 0)
    plan = MemoryPlan("tiny", "bf16", "48p", TextPlacement.DEVICE, 0, 0, 0, free)
    projection = model.transformer.time_projection[1]
    projection.weight.mul_(0.02)  # its features change so little that steps are left out
    projection.bias.fill_(0.5)
    spec, folder = specify("tiny", steps=8, step_cache_threshold=0.2), JobFolder(tmp_path / "job")
    draw_portrait(48).save(tmp_path / "portrait.png")
    create_job(folder, spec, tmp_path / "portrait.png", [make_track(0.2)], Settings())
    seen: list[Progress] = []
    weights = Located(tmp_path, model.manifest, plan)
    runner = Runner(InfiniteTalkPipeline(model), weights, Settings())
    runner.run(folder, spec, on_progress=seen.append)
    last = seen[-1]
    assert (last.stage, last.window, last.windows, last.fraction) == (Stage.WRITING, 1, 1, 1.0)
    assert last.skipped_steps == max(moment.skipped_steps for moment in seen) > 0


def test_pictures_are_decoded_as_the_memory_plan_has_it(
    load_tiny: Callable[[], Model], settings: Settings, tmp_path: Path
) -> None:
    model, free = load_tiny(), Memory(0, 0)
    plan = MemoryPlan("tiny", "bf16", "48p", TextPlacement.DEVICE, 0, 0, 0, free, tiles=2)
    Runner.of(model, Located(tmp_path, model.manifest, plan), replace(settings, compile="off"))
    assert model.vae.tiles == 2
