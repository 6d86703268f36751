"""Engine processes that start at once: forked from one in which torch is loaded already.

    python -m tests.jobs.nursery

reads what to start, one line of JSON each, and answers with the process id. An engine is the true
one, in a process of its own that can be killed; only the seconds of importing torch are saved.
"""

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from infinitetalk.jobs import worker
from tests.jobs.waiting import until

ROOT = Path(__file__).parents[2]
BROKEN = 99


@dataclass
class EngineProcess:
    """A started engine, as its parent sees it."""

    pid: int
    folder: Path
    stdin: int

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    @property
    def has_ended(self) -> bool:
        return (self.folder / "code").exists()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def leave_alone(self) -> None:
        """Close the pipe that tells it that its parent lives."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def wait(self, patience_s: float = 60.0) -> int:
        """How it ended: its exit code, or minus the signal."""
        until(lambda: self.has_ended, patience_s=patience_s)
        self.leave_alone()
        return int((self.folder / "code").read_text())

    def kill(self) -> None:
        """End it without warning, if it has not ended."""
        if not self.has_ended:
            self.send(signal.SIGKILL)
            self.wait()


class Nursery:
    """Starts engines."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        preset: str = "tiny",
        grace_s: float = worker.GRACE_S,
    ) -> EngineProcess:
        """An engine of slot 0.

        Args:
            folder: empty; for its log, its exit code and its standard input.
        """
        folder.mkdir(parents=True)
        os.mkfifo(folder / "stdin")
        stdin = os.open(folder / "stdin", os.O_RDWR)  # does not wait for the reader
        request = {
            "folder": str(folder),
            "environment": dict(environment),
            "preset": preset,
            "grace_s": grace_s,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return EngineProcess(int(self._process.stdout.readline()), folder, stdin)

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    import infinitetalk.runner
    import tests.jobs.interfering

    assert infinitetalk.runner and tests.jobs.interfering  # loaded for the children
    started: dict[int, Path] = {}
    while True:
        if select.select([sys.stdin], [], [], 0.01)[0]:
            if not (line := sys.stdin.readline()):
                return
            request = json.loads(line)
            pid = os.fork() or _engine(request)
            started[pid] = Path(request["folder"])
            print(pid, flush=True)
        _reap(started)


def _reap(started: dict[int, Path]) -> None:
    for pid, folder in list(started.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            del started[pid]
            part = folder / "code.part"
            part.write_text(str(os.waitstatus_to_exitcode(status)))
            part.rename(folder / "code")


def _engine(request: Mapping[str, Any]) -> NoReturn:
    from tests.jobs.interfering import load_interfering

    folder = Path(request["folder"])
    try:
        os.setsid()
        os.dup2(os.open(folder / "stdin", os.O_RDONLY), 0)
        log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for output in (1, 2):
            os.dup2(log, output)
        os.environ.update(request["environment"])
        arguments = ["--slot", "0", "--preset", request["preset"]]
        worker.leave(worker.main(arguments, load_interfering, request["grace_s"]))
    except BaseException:
        traceback.print_exc()
    os._exit(BROKEN)


if __name__ == "__main__":
    main()
