"""What becomes of the steps of a run."""

import logging
from dataclasses import dataclass

import pytest

from infinitetalk.acceptance.findings import Findings
from infinitetalk.acceptance.report import Check, Figure, Verdict
from infinitetalk.errors import WeightsCorrupt


@dataclass(frozen=True)
class Length:
    verdict: Verdict = Verdict(True, "fine")
    figures: tuple[Figure, ...] = (Figure("length", 2.0, "m"),)


def breaks() -> Length:
    raise WeightsCorrupt("The file a is altered.")


def falls_apart() -> Length:
    raise ZeroDivisionError("/secret/path")


def test_a_step_that_measures_leaves_its_verdict_and_figures() -> None:
    told: list[Check] = []
    findings = Findings(told.append)
    assert findings.measure("length", Length) == Length()
    assert findings.checks == told == [Check("length", True, "fine")]
    assert findings.figures == [Figure("length", 2.0, "m")]


def test_a_step_that_judges_leaves_its_verdict() -> None:
    findings = Findings(lambda _: None)
    findings.judge("sound", lambda: Verdict(False, "none"))
    assert findings.checks == [Check("sound", False, "none")]


def test_a_step_that_breaks_is_a_failed_check_with_the_code() -> None:
    findings = Findings(lambda _: None)
    assert findings.measure("load", breaks) is None
    findings.judge("weights", lambda: breaks().verdict)
    detail = "The file a is altered. (weights_corrupt)"
    assert findings.checks == [Check("load", False, detail), Check("weights", False, detail)]


def test_a_fault_of_ours_is_named_and_its_stack_goes_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    findings = Findings(lambda _: None)
    with caplog.at_level(logging.ERROR):
        assert findings.measure("load", falls_apart) is None
    assert findings.checks == [Check("load", False, "broke with ZeroDivisionError")]
    assert "/secret/path" in caplog.text
