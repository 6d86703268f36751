"""Verdicts and figures as the steps of a run bring them in.

A step that breaks is a finding as well, whatever breaks it: the run goes on.
"""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from infinitetalk.acceptance.report import Check, Figure, Verdict
from infinitetalk.errors import InfiniteTalkError

log = logging.getLogger(__name__)

OnCheck = Callable[[Check], None]


class Measured(Protocol):
    """What a step that measures returns."""

    @property
    def verdict(self) -> Verdict: ...

    @property
    def figures(self) -> tuple[Figure, ...]: ...


M = TypeVar("M", bound=Measured)


class Findings:
    """What is known so far.

    Args:
        on_check: told of every verdict as soon as it is there.
    """

    def __init__(self, on_check: OnCheck) -> None:
        self._on_check = on_check
        self.checks: list[Check] = []
        self.figures: list[Figure] = []

    def measure(self, name: str, step: Callable[[], M]) -> M | None:
        """Take a step that measures; None when it broke."""
        try:
            measured = step()
        except Exception as error:
            self._note(name, _failure(error))
            return None
        self.figures.extend(measured.figures)
        self._note(name, measured.verdict)
        return measured

    def judge(self, name: str, step: Callable[[], Verdict]) -> None:
        """Take a step that only judges."""
        try:
            verdict = step()
        except Exception as error:
            verdict = _failure(error)
        self._note(name, verdict)

    def _note(self, name: str, verdict: Verdict) -> None:
        check = Check(name, verdict.passed, verdict.detail)
        self.checks.append(check)
        self._on_check(check)


def _failure(error: Exception) -> Verdict:
    if isinstance(error, InfiniteTalkError):
        return Verdict(False, f"{error.message} ({error.code})")
    log.error("a step of the acceptance run broke", exc_info=error)
    return Verdict(False, f"broke with {type(error).__name__}")
