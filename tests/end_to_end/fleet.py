"""This repository's app on the fake control plane, and a client of its gateway.

It is deployed by the real `modal deploy`; gateway, intake and engines run in Modal's own runtime.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import modal

from tests.modal_control_plane.containers import Container
from tests.modal_control_plane.plane import ControlPlane
from tests.running_server import ROOT

ENDED = {"completed", "failed", "canceled"}
MODAL = Path(sys.executable).with_name("modal")


def modal_command(
    plane: ControlPlane, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run the real CLI in this checkout."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("INFINITETALK_", "MODAL_", "HF_"))
    }
    environment = {**clean, **plane.environment, "INFINITETALK_PRESET": "tiny", **variables}
    return subprocess.run(
        [str(MODAL), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def deployed(plane: ControlPlane, **variables: str) -> Iterator["Fleet"]:
    """The app, deployed with these settings beside the preset `tiny`."""
    done = modal_command(plane, "deploy", "modal_deploy.py", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    with Fleet(plane) as fleet:
        yield fleet


class Fleet(httpx.Client):
    """A client of the gateway, with a proxy token."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(
            base_url=plane.url_of("gateway"), headers=dict(plane.proxy_token), timeout=60
        )
        self.plane = plane

    def submit(self, image: Path, audio: Path, **fields: Any) -> str:
        """The id of a job that was accepted."""
        answer = self.try_submit(image, audio, **fields)
        assert answer.status_code == 200, f"{answer.text}\n{self.logs()}"
        return str(answer.json()["task_id"])

    def try_submit(
        self, image: Path, audio: Path, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        with image.open("rb") as picture, audio.open("rb") as voice:
            files = {"image": picture, "audio": voice}
            return self.post("/generate/submit", files=files, data=fields, headers=headers)

    def status(self, task_id: str) -> dict[str, Any]:
        answer = self.get("/generate/status", params={"task_id": task_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def result(self, task_id: str, **headers: str) -> httpx.Response:
        return self.get("/generate/get", params={"task_id": task_id}, headers=headers)

    def cancel(self, task_id: str) -> dict[str, Any]:
        answer = self.put("/generate/cancel", params={"task_id": task_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def reach(self, task_id: str, window: int) -> dict[str, Any]:
        """Wait until a job is at this window; its status."""
        return self.wait(task_id, lambda status: status["window"] >= window)

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait until a job has ended; its status."""
        return self.wait(task_id, lambda status: status["status"] in ENDED)

    def wait(
        self, task_id: str, claim: Callable[[dict[str, Any]], bool], seconds: float = 90.0
    ) -> dict[str, Any]:
        ends_at = time.monotonic() + seconds
        while not claim(status := self.status(task_id)):
            assert time.monotonic() < ends_at, f"{status}\n{self.logs()}"
            time.sleep(0.05)
        return status

    def logs(self) -> str:
        """The end of what every living container has said."""
        names = ("gateway", "intake", "Generator")
        return "\n".join(
            f"--- {name}\n{container.log[-3000:]}"
            for name in names
            for container in self.plane.containers(name)
        )

    def call_of(self, task_id: str) -> str:
        """The number of the call that was made for a job."""
        numbers = modal.Dict.from_name("infinitetalk-jobs", client=self.plane.client())
        return str(numbers.get(f"{task_id}@"))

    def engine(self, task_id: str) -> Container:
        """The container that has a job's call now."""
        call_id = self.call_of(task_id)
        return next(
            container
            for container in self.plane.containers("Generator")
            if call_id in {call.call_id for call in container.running}
        )
