"""Files of 300 MB through the real server: it streams them, and goes on answering."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from tests.running_server import RunningServer

MEGABYTES = 300
GROWTH = 60e6  # bytes; a body held once would take five times as much
PATIENCE_S = 3.0  # for /livez, on two busy cores


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight channels at 192 kHz, so that 300 MB are not too many seconds."""
    path = tmp_path_factory.mktemp("large") / "voice.wav"
    second = np.random.default_rng(0).normal(scale=0.1, size=(192000, 8))
    with soundfile.SoundFile(path, "w", 192000, 8, "PCM_16") as file:
        for _ in range(MEGABYTES * 10**6 // (192000 * 8 * 2) + 1):
            file.write(second)
    return path


class Watch:
    """Looks at a server's memory and asks whether it lives, while something is done to it."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        (self._worker,) = server.workers
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.before = self.most = self._worker.memory_info().rss
        self.slowest_s = 0.0
        self.answers = 0

    def _run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60) as client:
            while not self._done.wait(0.05):
                asked = time.monotonic()
                assert client.get("/livez").is_success
                self.slowest_s = max(self.slowest_s, time.monotonic() - asked)
                self.answers += 1
                self.most = max(self.most, self._worker.memory_info().rss)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def check(self) -> None:
        assert self.answers > 3
        assert self.slowest_s < PATIENCE_S
        assert self.most - self.before < GROWTH


@pytest.mark.skipif(sys.platform != "linux", reason="RSS means something else elsewhere")
def test_an_upload_and_a_result_of_300_megabytes_stay_out_of_memory(
    server: RunningServer, recording: Path, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    server.wait_for_engine()
    small = {"image": portrait.read_bytes(), "audio": make_speech(1.0).read_bytes()}
    httpx.post(f"{server.url}/generate/submit", files=small, timeout=60).raise_for_status()
    with Watch(server) as upload, portrait.open("rb") as image, recording.open("rb") as audio:
        answer = httpx.post(
            f"{server.url}/generate/submit",
            files={"image": image, "audio": audio},
            data={"max_seconds": "0.5"},
            timeout=120,
        )
    assert recording.stat().st_size > MEGABYTES * 10**6
    task_id = answer.raise_for_status().json()["task_id"]
    upload.check()

    def is_done() -> bool:
        return bool(server.get(f"/v1/jobs/{task_id}")["status"] == "completed")

    server.wait_for(is_done, 60, "done with the job")
    result = server.folder / "data" / "jobs" / task_id / "result.mp4"
    with result.open("r+b") as file:
        file.truncate(MEGABYTES * 10**6)  # nothing the engine makes in a test is so large
    with (
        Watch(server) as download,
        httpx.stream("GET", f"{server.url}/generate/get", params={"task_id": task_id}) as stream,
    ):
        received = sum(len(piece) for piece in stream.iter_bytes())
    assert received == MEGABYTES * 10**6
    download.check()
