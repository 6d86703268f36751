"""A job of a service on a terminal: upload, queue, rendering, download; lines where there is none.

Lines are told when something is new to a reader: the place in the queue, the window.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from infinitetalk.cli.progress_bar import TerminalBar, describe
from infinitetalk.progress import Progress, Stage

MEGABYTE = 1e6


class TaskBar(TerminalBar):
    """Shows one job; its methods are the callbacks of a `client.Task`."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "connecting")

    def uploading(self, done: int, total: int) -> None:
        self.update(done / max(total, 1), f"uploading {total / MEGABYTE:.1f} MB", "uploading")

    def downloading(self, done: int, total: int) -> None:
        self.update(done / max(total, 1), f"downloading {total / MEGABYTE:.1f} MB", "downloading")

    def status(self, status: Mapping[str, Any]) -> None:
        if status["status"] == "pending":
            self.update(0.0, _waiting(status), f"number {status['queue_position']} in the queue")
        elif status["status"] == "in_progress":
            progress = _progress(status)
            line = f"window {progress.window} of {progress.windows}" if progress.window else ""
            self.update(progress.fraction, describe(progress), line)


def _waiting(status: Mapping[str, Any]) -> str:
    place = f"number {status['queue_position']} in the queue"
    if status["eta_s"] is None:
        return place
    minutes, seconds = divmod(round(status["eta_s"]), 60)
    return f"{place}, done in about {minutes}:{seconds:02d}"


def _progress(status: Mapping[str, Any]) -> Progress:
    """A running job's status as the engine reported it."""
    return Progress(
        Stage(status["stage"]),
        window=status["window"],
        windows=status["windows"],
        step=status["step"],
        steps=status["steps"],
        skipped_steps=status["skipped_steps"],
        fraction=status["progress"],
        eta_s=status["eta_s"],
    )
