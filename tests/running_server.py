"""The real thing: `bentoml serve` with all its processes, started, watched and ended by process id.

    with RunningServer(folder) as server:
        httpx.get(f"{server.url}/v1/info")

Its data folder survives `stop` and `kill`, and `start` goes on with it. No process may outlive
`stop`: it is looked for by its environment, and among the children of those that were found so.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

ROOT = Path(__file__).parents[1]
READY_S = 60.0  # to answer /readyz, torch not included
ENGINE_S = 120.0  # to load torch and a model on a busy machine
STOP_S = 40.0
LOG_TAIL = 4000  # characters
NO_TLS = False  # of httpx's `verify`: it would read all certificates for every request, in 30 ms


class RunningServer:
    """A server of its own on a free port, with the preset `tiny` unless the variables say else.

    Args:
        service: what is served; this repository's service by default.
    """

    def __init__(self, folder: Path, service: str = ".", **variables: str) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._service = service
        self._variables = variables
        self._arbiter: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    def start(self) -> Self:
        """Start, and wait until it is ready to take jobs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bentoml", "serve", self._service]
        command += ["--port", str(self.port)]
        with self.log.open("ab") as log:
            self._arbiter = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        try:
            self.wait_for(lambda: self._answers("/readyz"), READY_S, "ready")
            self.processes()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, as a platform does it; fails if it takes too long or leaves a process behind."""
        if self._arbiter is None:
            return
        self.processes()
        self._arbiter.send_signal(signal.SIGTERM)
        try:
            self._arbiter.wait(STOP_S)
            self.wait_for(lambda: not self.processes(), 10.0, "gone", is_ending=True)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for every process at once, as when the machine goes down."""
        while running := self.processes():  # one that was just being started shows the next time
            for process in running:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(running, timeout=1)
        if self._arbiter is not None:
            self._arbiter.wait()
        self._arbiter = None
        self._seen.clear()

    @property
    def arbiter(self) -> psutil.Process:
        """The process that was started; the others are its children or theirs."""
        assert self._arbiter is not None
        return psutil.Process(self._arbiter.pid)

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that answer HTTP."""
        return self._running("_bentoml_impl.worker.service")

    @property
    def engine(self) -> psutil.Process | None:
        """The process that renders."""
        return next(iter(self._running("infinitetalk.jobs.worker")), None)

    def processes(self) -> list[psutil.Process]:
        """Everything of this server that is alive, wherever its parents have gone."""
        ours = [process for process in psutil.process_iter() if self._has_our_data(process)]
        for process in [*ours, *self._seen]:
            self._seen |= {process, *_children(process)}
        return [process for process in self._seen if _is_alive(process)]

    def wait_for_engine(self) -> None:
        """Wait until the model is loaded."""
        self.wait_for(self._is_engine_ready, ENGINE_S, "loaded")

    def wait_for(
        self, claim: Callable[[], bool], seconds: float, what: str, *, is_ending: bool = False
    ) -> None:
        """Wait until the claim holds; fails with the end of the log."""
        deadline = time.monotonic() + seconds
        while not claim():
            is_dead = self._arbiter is None or self._arbiter.poll() is not None
            if (is_dead and not is_ending) or time.monotonic() > deadline:
                raise AssertionError(f"The server is not {what}.\n{self._situation()}")
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        """The JSON of a route."""
        answer = httpx.get(f"{self.url}{path}", timeout=30, verify=NO_TLS)
        answer.raise_for_status()
        return answer.json()

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFINITETALK_")}
        ours = {
            "INFINITETALK_PRESET": "tiny",
            "INFINITETALK_HOME": str(self.folder / "home"),
            "INFINITETALK_DATA": str(self.folder / "data"),
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "default",
        }
        return {**inherited, **ours, **self._variables}

    def _has_our_data(self, process: psutil.Process) -> bool:
        ours = self._environment()["INFINITETALK_DATA"]
        with contextlib.suppress(psutil.Error):
            return process.environ().get("INFINITETALK_DATA") == ours
        return False

    def _running(self, module: str) -> list[psutil.Process]:
        return [process for process in self.processes() if module in _command(process)]

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}{path}", timeout=5, verify=NO_TLS).is_success
        return False

    def _is_engine_ready(self) -> bool:
        engine = self.engine
        engines = self.get("/v1/info")["engines"]
        return engine is not None and any(
            (said["pid"], said["state"]) == (engine.pid, "ready") for said in engines
        )

    def _situation(self) -> str:
        left = [f"{process.pid} {_command(process)}" for process in self.processes()]
        return "\n".join(["alive:", *left, "log:", self.log_text()[-LOG_TAIL:]])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
