"""Kernel locks, between processes and inside one."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from infinitetalk.jobs.locks import UserLock, holding, is_held

HOLD = """
import sys, threading, pathlib
from infinitetalk.jobs.locks import holding
with holding(pathlib.Path(sys.argv[1]), until=threading.Event()) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""
PATIENCE_S = 30.0


def holder(path: Path) -> "subprocess.Popen[bytes]":
    """A process that holds the lock by now."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


def test_a_lock_is_free_until_a_process_holds_it_and_after_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    assert not is_held(path)
    with holder(path) as process:
        assert is_held(path)
        process.kill()
    assert not is_held(path)


def test_the_next_one_gets_the_lock_when_its_holder_is_killed(tmp_path: Path) -> None:
    path, got = tmp_path / "lock", Event()

    def wait() -> None:
        with holding(path, until=Event()):
            got.set()

    with holder(path) as process:
        waiting = Thread(target=wait)
        waiting.start()
        assert not got.wait(0.3)
        process.kill()
        assert got.wait(PATIENCE_S)
        waiting.join()


def test_waiting_ends_without_the_lock_when_asked(tmp_path: Path) -> None:
    path, stopping = tmp_path / "lock", Event()
    stopping.set()
    with holding(path, until=Event()) as first, holding(path, until=stopping) as second:
        assert (first, second) == (True, False)
    with holding(path, until=stopping) as free:
        assert free, "a free lock needs no waiting"


def test_the_first_user_is_alone_until_it_lets_others_in(tmp_path: Path) -> None:
    first, second, third = (UserLock(tmp_path / "lock") for _ in range(3))
    assert first.enter(0.0)
    with pytest.raises(TimeoutError):
        second.enter(0.2)
    first.let_others_in()
    assert not second.enter(0.0)
    first.close()
    assert not third.enter(0.0), "the second is there still"
    second.close()
    third.close()
    after = UserLock(tmp_path / "lock")
    assert after.enter(0.0)
    after.close()
