"""What ends an acceptance run. The run itself is in tests/acceptance and end_to_end."""

from dataclasses import replace

import pytest

from infinitetalk.acceptance.report import Check, Report
from infinitetalk.errors import AcceptanceFailed
from infinitetalk.fleet.acceptance import require_passed

PASSED = Check("load", True, "fine")
REPORT = Report("2026", "1", "2", "cpu", "tiny", "48p", "tiny-bf16", "f", (PASSED,))


def test_a_report_without_a_failed_check_passes() -> None:
    require_passed(REPORT)


def test_a_failed_check_is_named() -> None:
    failed = replace(REPORT, checks=(PASSED, Check("picture", False, "black")))
    with pytest.raises(AcceptanceFailed, match="picture"):
        require_passed(failed)
