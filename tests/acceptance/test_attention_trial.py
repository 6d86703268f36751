"""Attention backends side by side: figures, faults, and what is said of the one in use."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from infinitetalk.acceptance.attention_trial import Trials, attention_trial
from infinitetalk.models.attention import BACKENDS, Attention, sdpa
from infinitetalk.weights.load import Model
from tests.acceptance.subjects import Ticks


class Slow:
    """SDPA that takes its time, by the test's own clock, and is off by a share of its values."""

    def __init__(self, ticks: Ticks, seconds: float, error: float = 0.0) -> None:
        self._ticks, self._seconds, self._error = ticks, seconds, error
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.shapes.add(tuple(q.shape))
        self._ticks.seconds += self._seconds
        return sdpa(q.float(), k.float(), v.float()) * (1 + self._error)


def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    raise ValueError("wrong GPU")


def nan(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q * torch.nan


def trial(model: Model, ticks: Ticks, backends: Mapping[str, Attention], in_use: str) -> Trials:
    return attention_trial(model.transformer, 33, (48, 64), in_use, ticks, backends)


def test_every_backend_is_timed_at_the_shape_of_a_window(tiny_model: Model, ticks: Ticks) -> None:
    backend = Slow(ticks, 2.0, 0.002)
    (row,) = trial(tiny_model, ticks, {"sdpa": backend}, "sdpa").rows
    assert row.seconds == 3.0  # and a tick of the clock
    assert row.relative_error == pytest.approx(0.002, rel=1e-2)
    assert backend.shapes == {(1, 9 * 3 * 4, 2, 32)}


def test_what_auto_would_take_is_said_beside_the_verdict(tiny_model: Model, ticks: Ticks) -> None:
    backends = {
        "sdpa": Slow(ticks, 9.0),
        "quick": Slow(ticks, 5.0, 0.002),
        "quicker and wrong": Slow(ticks, 1.0, 0.05),
        "quicker and no number": nan,
    }
    trials = trial(tiny_model, ticks, backends, "sdpa")
    assert trials.choice == "quick"
    assert trials.verdict.passed
    assert "INFINITETALK_ATTENTION=auto would take quick" in trials.verdict.detail
    assert "auto" not in trial(tiny_model, ticks, backends, "quick").verdict.detail


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (broken, "fails with ValueError"),
        (nan, "gives values that are not finite"),
        (lambda q, k, v: 1.2 * sdpa(q, k, v), "too far from float32"),
    ],
    ids=["broken", "nan", "far off"],
)
def test_a_backend_in_use_that_computes_something_else_fails(
    tiny_model: Model, ticks: Ticks, faulty: Attention, says: str
) -> None:
    trials = trial(tiny_model, ticks, {"sdpa": sdpa, "mine": faulty}, "mine")
    assert not trials.verdict.passed
    assert says in trials.verdict.detail
    assert trials.choice == "sdpa"
    assert [row.note for row in trials.rows] == ["", says]


def test_what_a_cpu_cannot_run_is_listed_with_the_reason(tiny_model: Model, ticks: Ticks) -> None:
    trials = trial(tiny_model, ticks, BACKENDS, "sdpa")
    notes = {row.backend: row.note for row in trials.rows}
    others = dict.fromkeys(BACKENDS.keys() - {"sdpa"}, "needs a CUDA device")
    assert notes == {"sdpa": "", **others}
    assert trials.verdict.passed
