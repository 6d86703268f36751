"""The real server, killed in every way a machine knows: no accepted job is lost or done twice."""

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.reading import read_video
from tests.running_server import RunningServer

SECONDS = 8.0  # 8 windows: long enough to be met at work
SHORT = "1.0"  # a window, for jobs that only wait
SEED = "5"


class Caller:
    """Submits the same job again and again, or the beginning of it."""

    def __init__(self, server: RunningServer, portrait: Path, speech: Path) -> None:
        self.server = server
        self._portrait = portrait
        self._speech = speech

    def submit(self, **fields: str) -> str:
        files = {"image": self._portrait.read_bytes(), "audio": self._speech.read_bytes()}
        url = f"{self.server.url}/generate/submit"
        answer = httpx.post(url, files=files, data={"seed": SEED, **fields}, timeout=60)
        return str(answer.raise_for_status().json()["task_id"])

    def status(self, task_id: str) -> dict[str, Any]:
        return dict(self.server.get(f"/v1/jobs/{task_id}"))

    def until(self, task_id: str, claim: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a moment of the job."""
        deadline = time.monotonic() + 120
        while not claim(status := self.status(task_id)):
            assert status["status"] in ("pending", "in_progress"), status
            assert time.monotonic() < deadline, status
            time.sleep(0.03)
        return status

    def at_work(self, task_id: str, window: int) -> None:
        """Wait until the engine is in this window."""
        self.until(task_id, lambda status: status["window"] >= window)

    def completed(self, task_id: str) -> dict[str, Any]:
        return self.until(task_id, lambda status: status["status"] == "completed")

    def video(self, task_id: str, folder: Path) -> np.ndarray:
        """Its decoded frames; the file is what its status says."""
        url = f"{self.server.url}/generate/get"
        answer = httpx.get(url, params={"task_id": task_id}, timeout=60).raise_for_status()
        said = self.status(task_id)["video"]["sha256"]
        assert hashlib.sha256(answer.content).hexdigest() == said
        path = folder / f"{task_id}.mp4"
        path.write_bytes(answer.content)
        return read_video(path).frames


@pytest.fixture(scope="module")
def caller(
    tmp_path_factory: pytest.TempPathFactory, portrait: Path, make_speech: Callable[..., Path]
) -> Iterator[Caller]:
    with RunningServer(tmp_path_factory.mktemp("server")) as server:
        yield Caller(server, portrait, make_speech(SECONDS))


@pytest.fixture(scope="module")
def undisturbed(caller: Caller, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    task_id = caller.submit()
    caller.completed(task_id)
    return caller.video(task_id, tmp_path_factory.mktemp("undisturbed"))


def sigterm(server: RunningServer) -> None:
    server.stop()


def kill_arbiter(server: RunningServer) -> None:
    """BentoML's parent alone: without our help its worker and the engine would live on."""
    server.arbiter.send_signal(signal.SIGKILL)
    server.wait_for(lambda: not server.processes(), 30, "gone", is_ending=True)


def kill_worker(server: RunningServer) -> None:
    """The process that answers HTTP; BentoML starts another, and so must we an engine."""
    (worker,) = server.workers
    engine = server.engine
    worker.send_signal(signal.SIGKILL)
    server.wait_for(lambda: engine not in server.processes(), 30, "rid of its engine")


def kill_engine(server: RunningServer) -> None:
    """The process that renders; the server lives on."""
    assert server.engine is not None
    server.engine.send_signal(signal.SIGKILL)


def power_cut(server: RunningServer) -> None:
    server.kill()


@pytest.mark.parametrize(
    "disturb",
    [
        *(sigterm, kill_arbiter, kill_worker, power_cut),
        pytest.param(kill_engine, marks=pytest.mark.slow),  # tests/jobs kills it at every stage
    ],
    ids=lambda f: f.__name__,
)
def test_every_accepted_job_is_done_once_and_as_if_nothing_had_been(
    caller: Caller,
    undisturbed: np.ndarray,
    tmp_path: Path,
    disturb: Callable[[RunningServer], None],
) -> None:
    first = caller.submit()
    second, third = (caller.submit(max_seconds=SHORT) for _ in range(2))
    caller.at_work(first, window=3)
    disturb(caller.server)
    if disturb in (sigterm, kill_arbiter, power_cut):
        caller.server.start()
    assert caller.status(second)["status"] == caller.status(third)["status"] == "pending"
    before, after = (caller.status(task_id)["queue_position"] for task_id in (second, third))
    assert before < after <= 3  # the first may come back in between, and is before them then
    resumed = caller.completed(first)
    assert resumed["attempt"] == 2
    assert np.array_equal(caller.video(first, tmp_path), undisturbed)
    ended = [caller.completed(task_id)["completed_at"] for task_id in (second, third)]
    assert resumed["completed_at"] < ended[0] < ended[1]
    log = caller.server.log_text()
    assert [log.count(f'"job_id": "{task_id}"') for task_id in (first, second, third)] == [1, 1, 1]


def test_a_running_job_that_is_canceled_stops_at_once_and_stays_canceled(caller: Caller) -> None:
    task_id, following = caller.submit(), caller.submit(max_seconds=SHORT)
    caller.at_work(task_id, window=2)
    httpx.put(f"{caller.server.url}/generate/cancel", params={"task_id": task_id})
    canceled = caller.status(task_id)
    assert canceled["status"] == "canceled"
    caller.completed(following)  # the engine is free for the next one
    assert caller.status(task_id) == canceled
    lines = [line for line in caller.server.log_text().splitlines() if line.startswith("{")]
    said = {event["job_id"]: event["status"] for event in map(json.loads, lines)}
    assert (said[task_id], said[following]) == ("canceled", "completed")


def test_several_workers_answer_for_one_engine(
    tmp_path: Path, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    with RunningServer(tmp_path, INFINITETALK_WORKERS="2") as server:
        caller = Caller(server, portrait, make_speech(2.0))
        ids = [caller.submit() for _ in range(4)]
        for task_id in ids:
            caller.completed(task_id)
        assert len(server.workers) == 2
        engines = [p for p in server.processes() if "infinitetalk.jobs.worker" in p.cmdline()]
        assert len(engines) == 1
        log = server.log_text()
        assert [log.count(f'"job_id": "{task_id}"') for task_id in ids] == [1] * 4


def test_nothing_is_left_beside_the_jobs(caller: Caller) -> None:
    data = caller.server.folder / "data"
    assert not list((data / "staging").iterdir())
    assert not list(data.rglob("*.part"))
