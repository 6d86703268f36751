"""The same job in less precision, and what is refused for want of memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infinitetalk.config import Settings
from infinitetalk.errors import DeviceTooSmall, InvalidField
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.runner import Runner
from infinitetalk.spec import specify
from infinitetalk.weights.device_memory import Memory
from infinitetalk.weights.load import Model
from infinitetalk.weights.locate import Located
from infinitetalk.weights.memory_plan import MemoryPlan
from infinitetalk.weights.text_placement import TextPlacement
from tests.end_to_end.reading import read_video

Make = Callable[..., Path]
Frames = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def frames(
    portrait: Path, make_speech: Make, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Frames:
    """Decoded frames of a job of two windows."""

    def of(runner: Runner, seed: int = 1) -> np.ndarray:
        folder = JobFolder(tmp_path_factory.mktemp("job") / "job")
        spec = specify("tiny", audio_guidance=2.0, seed=seed)
        create_job(folder, spec, portrait, [make_speech(2.0)], settings)
        result = runner.run(folder, spec)
        assert (result.frames, result.windows) == (50, 2)
        return read_video(result.path).frames.astype(float)

    return of


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


@pytest.fixture(scope="module")
def exact(tiny: Runner, frames: Frames) -> np.ndarray:
    return frames(tiny)


@pytest.fixture(scope="module")
def to_another_seed(tiny: Runner, frames: Frames, exact: np.ndarray) -> float:
    return distance(frames(tiny, seed=2), exact)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "fp8"}, {"text_encoder": "device_fp8"}, {"precision": "bfloat16"}],
    ids=str,
)
def test_in_less_precision_it_is_still_the_same_video(
    settings: Settings,
    frames: Frames,
    exact: np.ndarray,
    to_another_seed: float,
    changes: dict[str, str],
) -> None:
    """Random weights enlarge every rounding, so the yardstick is a video of another seed."""
    rough = Runner.load("tiny", replace(settings, **changes))  # type: ignore[arg-type]
    assert 0 < distance(frames(rough), exact) < to_another_seed / 3


def test_a_job_in_8_bits_gives_the_same_frames_again(settings: Settings, frames: Frames) -> None:
    first, second = (
        frames(Runner.load("tiny", replace(settings, precision="fp8"))) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_a_model_that_does_not_fit_is_not_loaded(settings: Settings) -> None:
    with pytest.raises(DeviceTooSmall, match="MEMORY_GIGABYTES"):
        Runner.load("tiny", replace(settings, memory_gigabytes=0.001))


def test_a_resolution_that_does_not_fit_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    place, free = TextPlacement.DEVICE, Memory(0, 0)
    plan = MemoryPlan("standard", "fp8", "480p", place, weights=0, window=0, on_host=0, free=free)
    weights = Located(tmp_path, tiny_model.manifest, plan)
    runner = Runner(InfiniteTalkPipeline(tiny_model), weights, Settings())
    assert runner.resolutions == ("480p",)
    with pytest.raises(InvalidField, match="holds windows of 480p, not of 720p") as refused:
        runner.run(JobFolder(tmp_path), specify("standard", resolution="720p"))
    assert refused.value.field == "resolution"
    assert list(tmp_path.iterdir()) == []
