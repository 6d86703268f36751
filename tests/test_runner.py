"""When a deployment compiles, and what it does where it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from infinitetalk.compile_cache import cache_name
from infinitetalk.config import Settings
from infinitetalk.errors import CompilerUnavailable
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.runner import compile_pipeline, is_compiling
from infinitetalk.weights.load import Model


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
