"""A renderer that follows a script: what `runner.Runner` may do to the job layer, on demand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infinitetalk.errors import Canceled
from infinitetalk.jobfolder import JobFolder
from infinitetalk.progress import Canceling, OnProgress, Progress
from infinitetalk.spec import GenerationSpec

CONTENT = b"a video"
Act = Progress | Exception | Callable[[], object]
"""Report a moment, break down, or do something to the world."""


@dataclass(frozen=True)
class Scripted:
    """What `runner.Result` is."""

    path: Path
    frames: int = 25
    windows: int = 3


class ScriptedRenderer:
    """Plays its acts, asks after each one whether to go on, and leaves a result.

    Args:
        at_end: happens when the result is there and nobody is asked any more.
    """

    preset = "tiny"
    resolutions = ("48p",)
    speakers = 2
    attention = "sdpa"
    gpu = "NVIDIA L40S"

    def __init__(self, *acts: Act, at_end: Callable[[], object] = lambda: None) -> None:
        self._acts = acts
        self._at_end = at_end
        self.labels: Mapping[str, str] = {}
        self.played = 0

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str],
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Scripted:
        self.labels = labels
        for act in self._acts:
            self._play(act, on_progress)
            self.played += 1
            if canceling():
                raise Canceled("The job was canceled.")
        part = folder.result.with_name("result.mp4.part")
        part.write_bytes(CONTENT)
        part.replace(folder.result)  # whole or not at all: others may be looking
        self._at_end()
        return Scripted(folder.result)

    def _play(self, act: Act, on_progress: OnProgress) -> None:
        if isinstance(act, Exception):
            raise act
        if isinstance(act, Progress):
            on_progress(act)
        else:
            act()
