"""Prepared weights on the fleet's Volume: fetched and merged once, on a machine without a GPU."""

import subprocess
import sys
from collections.abc import Callable

CLI = (sys.executable, "-m", "infinitetalk.cli", "weights")


def prepare(
    preset: str,
    precision: str,
    speakers: int,
    *,
    keep_sources: bool,
    commit: Callable[[], None],
    run: Callable[[list[str]], None] = lambda command: _run(command),
) -> None:
    """Fetch, merge and write the weights of a preset, check every byte, make them last.

    Each step in a process of its own, so that no file is open when the Volume is committed. What is
    there already is not done again, so a run that was cut off continues.

    Args:
        commit: makes what was written last; also called when a step fails.
    """
    model = ["--preset", preset, "--precision", precision, "--speakers", str(speakers)]
    steps = [["prepare", *model], ["verify", "--deep"]]
    steps += [] if keep_sources else [["prune", "--sources"]]
    try:
        for step in steps:
            run([*CLI, *step])
    finally:
        commit()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)
