"""A loop that one process runs, and another takes over."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from infinitetalk.jobs.duty import Duty

PATIENCE_S = 30.0


def no_step() -> None:
    """Nothing to do."""


class Steps:
    """Counts its calls; `enough` is set at the given one."""

    def __init__(self, enough: int, act: Callable[[int], None] = lambda _: None) -> None:
        self.count = 0
        self.enough = Event()
        self._wanted = enough
        self._act = act

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._wanted:
            self.enough.set()
        self._act(self.count)


def test_it_steps_until_it_is_stopped_and_then_ends_once(tmp_path: Path) -> None:
    steps, ends = Steps(3), Steps(1)
    duty = Duty("d", tmp_path / "lock", steps, period_s=0.01, at_end=ends)
    duty.start()
    assert steps.enough.wait(PATIENCE_S)
    assert ends.count == 0
    duty.stop()
    assert ends.count == 1


def test_a_second_one_stands_by_and_takes_over(tmp_path: Path) -> None:
    first, second = Steps(1), Steps(1)
    never = Steps(1)
    holder = Duty("d", tmp_path / "lock", first, period_s=0.01)
    heir = Duty("d", tmp_path / "lock", second, period_s=0.01)
    waiting = Duty("d", tmp_path / "lock", never, period_s=0.01, at_end=never)
    holder.start()
    assert first.enough.wait(PATIENCE_S)
    waiting.start()
    waiting.stop()
    heir.start()
    assert not second.enough.wait(0.3)
    holder.stop()
    assert second.enough.wait(PATIENCE_S)
    heir.stop()
    assert never.count == 0, "one that never had the duty neither steps nor ends it"


def test_an_error_of_a_step_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def act(count: int) -> None:
        if count < 3:
            raise OSError("no room")

    steps = Steps(4, act)
    duty = Duty("chores", tmp_path / "lock", steps, period_s=0.01)
    with caplog.at_level(logging.ERROR):
        duty.start()
        assert steps.enough.wait(PATIENCE_S)
        duty.stop()
    assert caplog.text.count("chores met an error") == 2


def test_errors_in_a_row_come_slower_and_slower(tmp_path: Path) -> None:
    """A broken disk must not be filled with what is said of it."""

    def act(_: int) -> None:
        raise OSError("broken")

    steps = Steps(4, act)
    duty = Duty("d", tmp_path / "lock", steps, period_s=0.01)
    duty.start()
    assert steps.enough.wait(PATIENCE_S)
    Event().wait(0.3)
    duty.stop()
    assert steps.count <= 6


def test_a_lock_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    in_the_way = tmp_path / "folder"
    in_the_way.touch()
    steps = Steps(1)
    duty = Duty("d", in_the_way / "lock", steps, period_s=0.01)
    duty.start()
    assert not steps.enough.wait(0.1)
    in_the_way.unlink()
    assert steps.enough.wait(PATIENCE_S)
    duty.stop()


def test_a_duty_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    duty = Duty("d", tmp_path / "lock", no_step, period_s=1.0)
    duty.stop()
    assert not (tmp_path / "lock").exists()
