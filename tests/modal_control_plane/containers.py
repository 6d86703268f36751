"""Containers: processes of Modal's own runtime, `modal._container_entrypoint`.

Each has a folder of its own. Of its image nothing is there but the sources. What a deployment finds
at a mount path lies elsewhere, so environment values that begin with one are changed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modal_proto import api_pb2 as api

from tests.modal_control_plane.deployments import Function
from tests.modal_control_plane.wire import CONTAINER_HEADER

INHERITED = ("PATH", "LANG", "OMP_NUM_THREADS")


@dataclass(eq=False, slots=True)
class Container:
    """`given` and `running` are the calls that it is to get and that it has; `data` its version."""

    container_id: str
    function: Function
    data: Any
    folder: Path
    given: list[Any] = field(default_factory=list)
    running: list[Any] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def definition(self) -> Any:
        return self.data.ranked_functions[0].function

    @property
    def is_outdated(self) -> bool:
        return self.data is not self.function.data

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def signal(self, number: int) -> None:
        """SIGKILL is for all processes of the container, anything else for the first one."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and nobody has noticed yet
                (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    async def start(
        self, layout: Any, environment: Mapping[str, str], mounts: Mapping[str, Path]
    ) -> None:
        """Args: mounts: local folders by the path at which they are mounted."""
        self.folder.mkdir(parents=True)
        arguments = self.folder / "arguments"
        arguments.write_bytes(self._arguments(layout))
        own = {
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self.container_id,
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "MODAL_OVERRIDE_HEADERS": f"{CONTAINER_HEADER}:{self.container_id}",
        }
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        given = {name: _redirected(value, mounts) for name, value in environment.items()}
        with (self.folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "modal._container_entrypoint"),
                cwd=self.folder,
                env=inherited | given | own,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _arguments(self, layout: Any) -> bytes:
        return api.ContainerArguments(
            task_id=self.container_id,
            function_id=self.function.function_id,
            app_id=self.function.app_id,
            function_def=self.definition,
            environment_name="main",
            app_layout=layout,
        ).SerializeToString()


def _redirected(value: str, mounts: Mapping[str, Path]) -> str:
    for mount, folder in mounts.items():
        if value == mount or value.startswith(f"{mount}/"):
            return f"{folder}{value.removeprefix(mount)}"
    return value
