"""Preparing weights on the fleet's Volume: which commands are run, and when what they did lasts."""

import subprocess

import pytest

from infinitetalk.cli import parser
from infinitetalk.fleet.weights import CLI, prepare


class Site:
    """Runs nothing, and can fail at a command."""

    def __init__(self, fails_at: str = "") -> None:
        self._fails_at = fails_at
        self.done: list[str] = []

    def run(self, command: list[str]) -> None:
        assert tuple(command[: len(CLI)]) == CLI
        self.done.append(" ".join(command[len(CLI) :]))
        if command[len(CLI)] == self._fails_at:
            raise subprocess.CalledProcessError(1, command)

    def commit(self) -> None:
        self.done.append("commit")

    def prepare(self, *, keep_sources: bool = False) -> None:
        prepare("best", "fp8", 2, keep_sources=keep_sources, commit=self.commit, run=self.run)


PREPARE = "prepare --preset best --precision fp8 --speakers 2"
VERIFY = "verify --deep"
PRUNE = "prune --sources"


@pytest.mark.parametrize(
    ("keep_sources", "steps"),
    [(False, [PREPARE, VERIFY, PRUNE, "commit"]), (True, [PREPARE, VERIFY, "commit"])],
)
def test_weights_are_made_checked_and_what_they_were_made_of_is_deleted(
    keep_sources: bool, steps: list[str]
) -> None:
    site = Site()
    site.prepare(keep_sources=keep_sources)
    assert site.done == steps


@pytest.mark.parametrize(
    ("fails_at", "steps"),
    [("prepare", [PREPARE, "commit"]), ("verify", [PREPARE, VERIFY, "commit"])],
)
def test_what_was_done_before_a_step_failed_lasts(fails_at: str, steps: list[str]) -> None:
    site = Site(fails_at)
    with pytest.raises(subprocess.CalledProcessError):
        site.prepare()
    assert site.done == steps, "sources are deleted only after the check"


@pytest.mark.parametrize("step", [PREPARE, VERIFY, PRUNE])
def test_the_command_line_knows_every_step(step: str) -> None:
    options = parser().parse_args([CLI[-1], *step.split()])
    assert callable(options.run)


def test_a_command_that_fails_is_an_error() -> None:
    done: list[str] = []
    with pytest.raises(subprocess.CalledProcessError):
        prepare("none", "fp8", 1, keep_sources=True, commit=lambda: done.append("commit"))
    assert done == ["commit"]
