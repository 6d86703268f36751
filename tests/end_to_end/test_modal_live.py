"""The deployment on real Modal, with the preset `tiny` on CPUs: `make test-modal-live`, some cents.

    MODAL_TOKEN_ID, MODAL_TOKEN_SECRET    of your account; or `modal setup` was run
    MODAL_PROXY_KEY, MODAL_PROXY_SECRET   a proxy token: `modal workspace proxy-tokens create`
    MODAL_ENVIRONMENT                     where it is deployed; one of its own is best

It claims of the real one what other tests claim of the fake control plane: auth at the edge, a job
by the stock protocol, its video, cancel, bad input. The app is stopped afterwards; its Dicts and
Volumes stay.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.fleet import ENDED, MODAL
from tests.running_server import ROOT

pytestmark = pytest.mark.live
PATIENCE_S = 900.0  # the image is built the first time


@pytest.fixture(scope="module")
def gateway() -> Iterator[httpx.Client]:
    headers = {
        "Modal-Key": os.environ["MODAL_PROXY_KEY"],
        "Modal-Secret": os.environ["MODAL_PROXY_SECRET"],
    }
    done = _modal("deploy", "modal_deploy.py")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"https://\S+gateway\S*\.modal\.run", done.stdout)
    assert found is not None, done.stdout
    with httpx.Client(base_url=found[0], headers=headers, timeout=120) as client:
        yield client
    _modal("app", "stop", "infinitetalk-api", "--yes")


def _modal(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "INFINITETALK_PRESET": "tiny", "INFINITETALK_GPU": "none"}
    return subprocess.run(
        [str(MODAL), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )


def _submit(gateway: httpx.Client, image: Path, audio: Path) -> str:
    with image.open("rb") as picture, audio.open("rb") as voice:
        files = {"image": picture, "audio": voice}
        answer = gateway.post("/generate/submit", files=files)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def _ended(gateway: httpx.Client, task_id: str) -> str:
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at:
        answer = gateway.get("/generate/status", params={"task_id": task_id})
        if (status := answer.json()["status"]) in ENDED:
            return str(status)
        time.sleep(2)
    raise AssertionError(f"job {task_id} has not ended in {PATIENCE_S:.0f} s")


def test_nobody_comes_in_without_a_proxy_token(gateway: httpx.Client) -> None:
    assert httpx.get(f"{gateway.base_url}livez").status_code == 401


def test_a_job_is_done_and_its_video_is_served(
    gateway: httpx.Client, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    task_id = _submit(gateway, portrait, make_speech(1.2))
    assert _ended(gateway, task_id) == "completed"
    answer = gateway.get("/generate/get", params={"task_id": task_id})
    assert answer.content[4:8] == b"ftyp"
    part = gateway.get("/generate/get", params={"task_id": task_id}, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")


def test_a_running_job_is_canceled(
    gateway: httpx.Client, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    task_id = _submit(gateway, portrait, make_speech(60.0))
    assert gateway.put("/generate/cancel", params={"task_id": task_id}).status_code == 200
    assert _ended(gateway, task_id) == "canceled"


def test_bad_input_is_refused(gateway: httpx.Client, portrait: Path) -> None:
    with portrait.open("rb") as picture:
        answer = gateway.post("/generate/submit", files={"image": picture, "audio": b"no sound"})
    assert answer.json()["field"] == "audio"
