"""A report as JSON and back."""

import json
from dataclasses import replace

import pytest

from infinitetalk.acceptance.report import (
    Cell,
    Check,
    Figure,
    Report,
    Trial,
    from_json,
    to_json,
)
from infinitetalk.errors import InvalidInput

REPORT = Report(
    date="2026-11-23T00:00:00+00:00",
    engine="0.1.0",
    torch="2.11.0",
    device="NVIDIA L40S",
    preset="standard",
    resolution="480p",
    weights="standard-fp8-1",
    fingerprint="abc",
    checks=(Check("load", True, "fine"), Check("render", False, "diverged")),
    figures=(Figure("forward", 5.2, "s"),),
    attention=(Trial("sdpa", 0.1, 0.003), Trial("sage", note="not installed")),
    sweep=(Cell(4, 2.0, 5.0, 30.0, "a.mp4"), Cell(8, 2.0, 5.0, note="diverged")),
)


def test_a_report_is_the_same_after_json() -> None:
    assert from_json(to_json(REPORT)) == REPORT


def test_a_report_says_which_checks_failed() -> None:
    assert [check.name for check in REPORT.failed] == ["render"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        to_json(replace(REPORT, format=2)),
        json.dumps({**json.loads(to_json(REPORT)), "checks": [{"name": "load"}]}),
        json.dumps({**json.loads(to_json(REPORT)), "else": 1}),
    ],
    ids=["text", "list", "empty", "newer", "part of a check", "unknown field"],
)
def test_what_is_no_report_of_this_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        from_json(text)
