"""What a caller waits for: submit and status with 500 jobs in the queue, on this CPU.

python -m benchmarks.service

/livez in the same run is the floor: the same server and connection, and nothing to look up.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import httpx

from benchmarks.results import record
from infinitetalk.config import load_settings
from infinitetalk.jobs.host import LocalHost
from infinitetalk.jobs.model import new_id
from tests.running_server import RunningServer

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
QUEUED = 500
CALLS = 300
SUBMITS = 20


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RunningServer(Path(folder), INFINITETALK_ENGINES="0")
        with server, httpx.Client(base_url=server.url, timeout=60) as client:
            submits = measure(lambda: submit(client), SUBMITS)
            last = fill(server, submit(client))
            floor = measure(lambda: client.get("/livez"), CALLS)
            status = measure(lambda: client.get(f"/v1/jobs/{last}"), CALLS)
            task = {"task_id": last}
            task_status = measure(lambda: client.get("/generate/status", params=task), CALLS)
            queue = measure(lambda: client.get("/v1/queue"), CALLS)
            place = client.get(f"/v1/jobs/{last}").json()["queue_position"]
    assert place == QUEUED, place
    named = {
        "GET /livez": floor,
        "GET /generate/status": task_status,
        "GET /v1/jobs/ID": status,
        "GET /v1/queue": queue,
        "POST /generate/submit, 4.7 s of speech": submits,
    }
    rows = [row(name, seconds, floor) for name, seconds in named.items()]
    note = (
        f"{QUEUED} jobs wait, the status is that of the last. {CALLS} calls one after the other on "
        f"one connection, {SUBMITS} submits. The first submit waits for the warm-up of the sandbox."
    )
    record("CPU: the service", ("call", "median", "p99", "median over /livez"), rows, note)


def submit(client: httpx.Client) -> str:
    """A job with the bundled media."""
    media = {"image": ASSETS / "portrait.png", "audio": ASSETS / "speech.flac"}
    answer = client.post(
        "/generate/submit", files={name: path.read_bytes() for name, path in media.items()}
    )
    return str(answer.raise_for_status().json()["task_id"])


def fill(server: RunningServer, task_id: str) -> str:
    """Rows like that of a real job, until so many wait; the id of the last."""
    settings = load_settings({"INFINITETALK_DATA": str(server.folder / "data")})
    host = LocalHost.open(settings)
    job = host.store.get(task_id)
    while len(host.store.find()) < QUEUED:
        job = host.store.add(replace(job, id=new_id()), limit=QUEUED)
    host.close()
    return job.id


def measure(call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return seconds


def row(name: str, seconds: list[float], floor: list[float]) -> tuple[str, ...]:
    median = statistics.median(seconds)
    p99 = sorted(seconds)[int(len(seconds) * 0.99) - 1]
    ratio = median / statistics.median(floor)
    return name, f"{median * 1e3:.1f} ms", f"{p99 * 1e3:.1f} ms", f"{ratio:.1f} x"


if __name__ == "__main__":
    main()
