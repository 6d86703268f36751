"""The same calls to a stock BentoML task service and to ours: equal but for a list of differences.

BentoML's server is the specification here, not its documentation.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer

SHAPE = {"code", "field", "retryable", "request_id"}  # every error of ours has these besides
UNKNOWN = "0" * 32


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two services."""

    http: httpx.Client
    files: dict[str, tuple[str, bytes]]

    def submit(self, **data: str) -> str:
        answer = self.http.post("/generate/submit", files=self.files, data=data)
        return str(answer.json()["task_id"])

    def canceled(self) -> str:
        task_id = self.submit()
        self.http.put("/generate/cancel", params={"task_id": task_id})
        return task_id

    def status(self, task_id: str) -> str:
        answer = self.http.get("/generate/status", params={"task_id": task_id})
        return str(answer.json()["status"])


@cache
def completed(side: Side) -> str:
    """A task that is through: one will do, for it takes a second to wait for."""
    task_id = side.submit()
    while side.status(task_id) != "completed":
        time.sleep(0.05)
    return task_id


@pytest.fixture(scope="module")
def sides(
    tmp_path_factory: pytest.TempPathFactory,
    server: RunningServer,
    portrait: Path,
    make_speech: Callable[..., Path],
) -> Iterator[tuple[Side, Side]]:
    """(stock, ours)"""
    files = {
        "image": ("face.png", portrait.read_bytes()),
        "audio": ("voice.wav", make_speech(1.0).read_bytes()),
    }
    stock_service = "tests.end_to_end.stock_service:Stock"
    with (
        RunningServer(tmp_path_factory.mktemp("stock"), service=stock_service) as stock,
        httpx.Client(base_url=stock.url, timeout=120) as to_stock,
        httpx.Client(base_url=server.url, timeout=120) as to_ours,
    ):
        yield Side(to_stock, files), Side(to_ours, files)


Call = Callable[[Side], httpx.Response]


def on_task(method: str, call: str, make: Callable[[Side], str]) -> Call:
    return lambda side: side.http.request(
        method, f"/generate/{call}", params={"task_id": make(side)}
    )


def plain(method: str, path: str) -> Call:
    return lambda side: side.http.request(method, path)


EQUAL: dict[str, Call] = {
    "submit": lambda side: side.http.post("/generate/submit", files=side.files),
    "status of a new task": on_task("GET", "status", Side.submit),
    "status of a finished task": on_task("GET", "status", completed),
    "status of a canceled task": on_task("GET", "status", Side.canceled),
    "status of an unknown task": on_task("GET", "status", lambda _: UNKNOWN),
    "status of no task": plain("GET", "/generate/status"),
    "result too early": on_task("GET", "get", Side.submit),
    "result": on_task("GET", "get", completed),
    "result of an unknown task": on_task("GET", "get", lambda _: UNKNOWN),
    "result of no task": plain("GET", "/generate/get"),
    "retry too early": on_task("POST", "retry", Side.submit),
    "retry": on_task("POST", "retry", completed),
    "retry of an unknown task": on_task("POST", "retry", lambda _: UNKNOWN),
    "retry of no task": plain("POST", "/generate/retry"),
    "direct call": lambda side: side.http.post("/generate", files=side.files),
    "submit by GET": plain("GET", "/generate/submit"),
    "status by POST": plain("POST", "/generate/status"),
    "retry by GET": plain("GET", "/generate/retry"),
    "direct call by GET": plain("GET", "/generate"),
    "nothing there": plain("GET", "/generate/nothing"),
    "live": plain("GET", "/livez"),
    "ready": plain("GET", "/readyz"),
    "healthy": plain("GET", "/healthz"),
    "metrics": plain("GET", "/metrics"),
    "schema": plain("GET", "/schema.json"),
    "openapi": plain("GET", "/docs.json"),
}

# What is meant to differ: (stock, ours).
DIFFERENT: dict[str, tuple[Call, int, int]] = {
    "cancel works": (on_task("PUT", "cancel", Side.submit), 400, 200),
    "cancel by POST, as BentoML's documentation has it": (
        on_task("POST", "cancel", Side.submit),
        405,
        200,
    ),
    "cancel of an unknown task": (on_task("PUT", "cancel", lambda _: UNKNOWN), 400, 404),
    "the result of a canceled task is a conflict": (on_task("GET", "get", Side.canceled), 400, 409),
    "a canceled task can be retried": (on_task("POST", "retry", Side.canceled), 400, 200),
    "bad input is refused at once": (
        lambda side: side.http.post("/generate/submit", files={"image": side.files["image"]}),
        200,
        422,
    ),
    "a body that is no JSON is refused at once": (
        lambda side: side.http.post(
            "/generate/submit", content=b"{", headers={"content-type": "application/json"}
        ),
        200,
        400,
    ),
}


@pytest.mark.parametrize("call", EQUAL)
def test_status_and_keys_are_those_of_bentoml(sides: tuple[Side, Side], call: str) -> None:
    stock, ours = (EQUAL[call](side) for side in sides)
    assert ours.status_code == stock.status_code
    assert ours.headers.get("content-type") == stock.headers.get("content-type") or _is_error(ours)
    assert _keys(stock) <= _keys(ours)
    if _is_error(stock) and _keys(stock):
        assert _keys(ours) == {"error"} | SHAPE


@pytest.mark.parametrize("difference", DIFFERENT)
def test_what_differs_is_meant_to(sides: tuple[Side, Side], difference: str) -> None:
    call, stock, ours = DIFFERENT[difference]
    assert [call(side).status_code for side in sides] == [stock, ours]


def test_a_status_means_the_same(sides: tuple[Side, Side]) -> None:
    for side in sides:
        assert side.status(side.submit()) in ("pending", "in_progress")
        assert side.status(completed(side)) == "completed"
        assert side.status(side.canceled()) == "canceled"


def _is_error(answer: httpx.Response) -> bool:
    return answer.status_code >= 400


def _keys(answer: httpx.Response) -> set[str]:
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return set()
    return set(answer.json()) if isinstance(answer.json(), dict) else set()
