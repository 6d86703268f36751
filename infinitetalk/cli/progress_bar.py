"""Live progress on a terminal; one line a window where there is none."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from infinitetalk.progress import Progress, Stage


class TerminalBar:
    """A bar on a terminal; elsewhere lines, each said once."""

    def __init__(self, console: Console, description: str) -> None:
        self._console = console
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(description, total=1.0)
        self._line = ""

    def update(self, fraction: float, description: str, line: str) -> None:
        """Move the bar; `line` is for where there is none, and may be empty."""
        self._bar.update(self._task, completed=fraction, description=description)
        if line and line != self._line and not self._console.is_terminal:
            self._line = line
            self._console.print(line)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


class ProgressBar(TerminalBar):
    """Shows one job's `Progress`."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "preparing")

    def show(self, progress: Progress) -> None:
        """Take the next moment of the job."""
        is_line_due = progress.stage is Stage.DECODING
        line = f"window {progress.window} of {progress.windows}{_eta(progress)}"
        self.update(progress.fraction, describe(progress), line if is_line_due else "")


def describe(progress: Progress) -> str:
    """A moment of a job in words."""
    parts = [str(progress.stage)]
    if progress.window:
        parts.append(f"window {progress.window} of {progress.windows}")
    if progress.stage is Stage.DENOISING and progress.step:
        parts.append(f"step {progress.step} of {progress.steps}")
    return ", ".join(parts) + _eta(progress)


def _eta(progress: Progress) -> str:
    if progress.eta_s is None:
        return ""
    minutes, seconds = divmod(round(progress.eta_s), 60)
    return f", {minutes}:{seconds:02d} to go"
