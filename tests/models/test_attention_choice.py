import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infinitetalk.models.attention import Attention, sdpa
from infinitetalk.models.attention_choice import (
    Case,
    Trial,
    best_of,
    choose_attention,
    read_choices,
    try_backends,
)

CASE = Case("NVIDIA H200", "2.11.0", "0.1.0", 33_600, 40, 128)
GRID = (2, 4, 4)
CPU = torch.device("cpu")


def trial(name: str, milliseconds: float, refusal: str | None = None) -> Trial:
    return Trial(name, milliseconds, 0.01, refusal)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([trial("sdpa", 60), trial("cudnn", 40)], "cudnn"),
        ([trial("sdpa", 60), trial("cudnn", 40, "too far from float32")], "sdpa"),
        ([trial("cudnn", 40), trial("eight_bit", 34)], "cudnn"),
        ([trial("cudnn", 40), trial("eight_bit", 33)], "eight_bit"),
        ([trial("cudnn", 40), trial("eight_bit", 30), trial("sage", 29)], "sage"),
        ([trial("cudnn", 40), trial("eight_bit", 30, "too far from float32")], "cudnn"),
        ([trial("sdpa", 60), Trial("cudnn", refusal="this torch has no cuDNN")], "sdpa"),
        ([Trial("sdpa", refusal="fails"), trial("eight_bit", 30)], "eight_bit"),
        ([], "sdpa"),
    ],
    ids=[
        "the fastest exact one",
        "not a wrong one",
        "8 bits must be a fifth faster",
        "8 bits that are",
        "the fastest of those",
        "not 8 bits that are wrong",
        "not what cannot run",
        "8 bits where nothing else works",
        "nothing measured",
    ],
)
def test_what_is_taken(trials: Sequence[Trial], chosen: str) -> None:
    assert best_of(trials) == chosen


def measured_once() -> Callable[[], Sequence[Trial]]:
    answers = [[trial("sdpa", 60), trial("cudnn", 40)]]
    return lambda: answers.pop()


def test_a_choice_is_measured_once_and_then_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, measure = tmp_path / "kernels" / "attention.json", measured_once()
    with caplog.at_level(logging.INFO):
        first = choose_attention(CASE, file, measure)
        again = choose_attention(CASE, file, measure)
    assert first == again
    assert first.name == "cudnn"
    assert [record.getMessage() for record in caplog.records] == [
        "Attention of 33600 tokens on NVIDIA H200: "
        "cudnn (sdpa 60.0 ms, error 1.00 %; cudnn 40.0 ms, error 1.00 %)"
    ]


@pytest.mark.parametrize(
    "other",
    [
        Case("NVIDIA L40S", "2.11.0", "0.1.0", 33_600, 40, 128),
        Case("NVIDIA H200", "2.13.0", "0.1.0", 33_600, 40, 128),
        Case("NVIDIA H200", "2.11.0", "0.2.0", 33_600, 40, 128),
        Case("NVIDIA H200", "2.11.0", "0.1.0", 75_600, 40, 128),
        Case("NVIDIA H200", "2.11.0", "0.1.0", 33_600, 12, 128),
        Case("NVIDIA H200", "2.11.0", "0.1.0", 33_600, 40, 64),
    ],
    ids=["gpu", "torch", "engine", "tokens", "heads", "head size"],
)
def test_another_case_is_measured_on_its_own_and_kept_beside(other: Case, tmp_path: Path) -> None:
    file = tmp_path / "attention.json"
    choose_attention(CASE, file, lambda: [trial("cudnn", 40)])
    choose_attention(other, file, lambda: [trial("sdpa", 60)])
    assert {key: choice.name for key, choice in read_choices(file).items()} == {
        CASE.key: "cudnn",
        other.key: "sdpa",
    }


def test_about_as_many_tokens_share_a_choice() -> None:
    shorter = Case("NVIDIA H200", "2.11.0", "0.1.0", 40_000, 40, 128)
    assert shorter.key == CASE.key


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"format": 2, "choices": {}}', '{"format": 1, "choices": {"k": {}}}'],
)
def test_a_file_that_cannot_be_read_is_measured_again(content: str, tmp_path: Path) -> None:
    file = tmp_path / "attention.json"
    file.write_text(content)
    assert choose_attention(CASE, file, measured_once()).name == "cudnn"
    assert json.loads(file.read_text())["format"] == 1


def test_a_folder_that_cannot_be_written_costs_the_file_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kernels").write_text("a file where the folder should be")
    choice = choose_attention(CASE, tmp_path / "kernels" / "attention.json", measured_once())
    assert choice.name == "cudnn"
    assert "could not be kept" in caplog.text


def fails(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available")


def gives_nothing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.full_like(q, torch.nan)


def gives_one_value(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ones_like(q)


def off_by(share: float) -> Attention:
    return lambda q, k, v: sdpa(q.float(), k.float(), v.float()) * (1 + share)


@pytest.mark.parametrize(
    ("name", "function", "refusal"),
    [
        ("mine", sdpa, None),
        ("mine", fails, "fails with RuntimeError"),
        ("mine", gives_nothing, "gives values that are not finite"),
        ("mine", gives_one_value, "too far from float32"),
        ("mine", off_by(0.008), "too far from float32"),
        ("mine", off_by(0.004), None),
    ],
)
def test_a_backend_that_does_not_work_is_refused(
    name: str, function: Attention, refusal: str | None
) -> None:
    (result,) = try_backends(GRID, 2, 16, CPU, lambda call: 1.0, {name: function})
    assert result.refusal == refusal


def test_the_time_is_the_median_and_includes_no_first_call() -> None:
    calls, ticks = [], iter([9.0, 3.0, 5.0])

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q.shape)
        return sdpa(q, k, v)

    def clock(call: Callable[[], object]) -> float:
        call()
        return next(ticks)

    (result,) = try_backends(GRID, 2, 16, CPU, clock, {"mine": function})
    assert result.milliseconds == 5.0
    assert len(calls) == 4


def test_backends_that_cannot_run_here_are_named_with_the_reason() -> None:
    trials = {t.name: t for t in try_backends(GRID, 2, 16, CPU, lambda call: 1.0)}
    assert trials["sdpa"].refusal is None
    assert trials["cudnn"].refusal == trials["eight_bit"].refusal == "needs a CUDA device"
