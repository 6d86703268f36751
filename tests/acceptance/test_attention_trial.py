"""Attention backends side by side: figures, faults, and which one is recommended."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from infinitetalk.acceptance.attention_trial import EXACT_ENOUGH, RUNS, Trials, attention_trial
from infinitetalk.models.attention import BACKENDS, Attention, sdpa
from infinitetalk.weights.load import Model
from tests.acceptance.subjects import Ticks

LoadTiny = Callable[[], Model]


class Slow:
    """SDPA that takes its time, by the test's own clock, and is off by a share of its values."""

    def __init__(self, ticks: Ticks, seconds: float, error: float = 0.0) -> None:
        self._ticks, self._seconds, self._error = ticks, seconds, error
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.shapes.append(tuple(q.shape))
        self._ticks.seconds += self._seconds
        return sdpa(q, k, v) * (1 + self._error)


def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    raise ValueError("wrong GPU")


def nan(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q * torch.nan


def trial(model: Model, ticks: Ticks, backends: Mapping[str, Attention], in_use: str) -> Trials:
    return attention_trial(model.transformer, 33, (48, 64), in_use, ticks, backends)


def test_every_backend_is_timed_at_the_shape_of_a_window(tiny_model: Model, ticks: Ticks) -> None:
    backend = Slow(ticks, 2.0)
    (row,) = trial(tiny_model, ticks, {"sdpa": backend}, "sdpa").rows
    assert row.seconds == 3.0  # and a tick of the clock
    assert backend.shapes == [(1, 9 * 3 * 4, 2, 32)] * (RUNS + 1)


def test_the_fastest_that_is_exact_enough_is_recommended(tiny_model: Model, ticks: Ticks) -> None:
    backends = {
        "sdpa": Slow(ticks, 9.0),
        "cudnn": Slow(ticks, 5.0, EXACT_ENOUGH / 2),
        "flash": Slow(ticks, 1.0, EXACT_ENOUGH * 2),
        "sage": nan,
    }
    trials = trial(tiny_model, ticks, backends, "sdpa")
    assert trials.choice == "cudnn"
    assert trials.verdict.passed
    assert "INFINITETALK_ATTENTION=cudnn is faster" in trials.verdict.detail


@pytest.mark.parametrize("name", ["broken", "nan", "far off"])
def test_a_backend_in_use_that_computes_something_else_fails(
    tiny_model: Model, ticks: Ticks, name: str
) -> None:
    faulty = {"broken": broken, "nan": nan, "far off": Slow(ticks, 1.0, 0.2)}[name]
    trials = trial(tiny_model, ticks, {"sdpa": sdpa, "flash": faulty}, "flash")
    assert not trials.verdict.passed
    assert trials.choice == "sdpa"


def test_relative_errors_are_those_of_the_output(tiny_model: Model, ticks: Ticks) -> None:
    (row,) = trial(tiny_model, ticks, {"sdpa": Slow(ticks, 1.0, 0.02)}, "sdpa").rows
    assert row.relative_error == pytest.approx(0.02, rel=1e-3)


def test_what_a_cpu_cannot_run_is_listed_with_the_reason(tiny_model: Model, ticks: Ticks) -> None:
    trials = trial(tiny_model, ticks, BACKENDS, "sdpa")
    notes = {row.backend: row.note for row in trials.rows}
    others = dict.fromkeys(BACKENDS.keys() - {"sdpa"}, "needs a CUDA device")
    assert notes == {"sdpa": "", **others}
    assert trials.verdict.passed


def test_a_backend_is_measured_against_float32(load_tiny: LoadTiny, ticks: Ticks) -> None:
    """So rounding to bfloat16 shows, and is exact enough."""
    model = load_tiny()
    model.transformer.bfloat16()
    (row,) = trial(model, ticks, {"sdpa": sdpa}, "sdpa").rows
    assert row.relative_error is not None
    assert 0 < row.relative_error < EXACT_ENOUGH / 5


def test_values_that_are_no_numbers_are_said_to_be(tiny_model: Model, ticks: Ticks) -> None:
    trials = trial(tiny_model, ticks, {"sdpa": nan}, "sdpa")
    assert trials.rows[0].relative_error is None and trials.choice is None
    assert "gives values that are no numbers" in trials.verdict.detail
