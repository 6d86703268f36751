"""SIGTERM and SIGINT: draining comes first, then what would have happened anyway."""

import signal
import subprocess
import sys

import pytest

NUMBERS = (signal.SIGTERM, signal.SIGINT)

WITH_A_HANDLER = """
import os, signal, sys
from infinitetalk.serving.signals import chain_sigterm
number = int(sys.argv[1])
signal.signal(number, lambda *_: print("handled"))
chain_sigterm(lambda: print("drained"))
os.kill(os.getpid(), number)
print("alive")
"""
WITHOUT = """
import os, signal, sys
from infinitetalk.serving.signals import chain_sigterm
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)
chain_sigterm(lambda: print("drained", flush=True))
os.kill(os.getpid(), number)
print("alive")
"""


def run(script: str, number: int) -> tuple[int, list[str]]:
    """Exit code and what was printed."""
    command = [sys.executable, "-c", script, str(int(number))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_the_server_drains_before_its_own_handler_stops_it(number: signal.Signals) -> None:
    assert run(WITH_A_HANDLER, number) == (0, ["drained", "handled", "alive"])


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_process_without_a_handler_drains_and_ends(number: signal.Signals) -> None:
    assert run(WITHOUT, number) == (-number, ["drained"])
