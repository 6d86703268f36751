"""A job as a script sees it: waiting, retrying, erasing, and why there is no video."""

from pathlib import Path
from typing import Any

import pytest

from infinitetalk.errors import (
    Canceled,
    ConnectionFailed,
    InfiniteTalkError,
    JobNotFinished,
    WaitTimeout,
    WorkerLost,
)
from tests.client.talking import Connect, Pauses
from tests.scripted_server import Answer, Hangup, ScriptedServer, problem, said


def test_waiting_ends_with_the_last_status(connect: Connect, pauses: Pauses) -> None:
    seen: list[str] = []
    states = ["pending", "in_progress", "failed"]
    with ScriptedServer(*(said(status=state) for state in states)) as server:
        task = connect(server).task("t1")
        last = task.wait(on_status=lambda status: seen.append(status["status"]), poll_s=0.3)
    assert (last["status"], seen, pauses.taken) == ("failed", states, [0.3, 0.3])
    assert {asked.path for asked in server.asked} == {"/generate/status?task_id=t1"}


def test_waiting_is_given_up_when_it_takes_too_long(connect: Connect) -> None:
    with ScriptedServer(said(status="pending")) as server, pytest.raises(WaitTimeout):
        connect(server).task("t1").wait(timeout_s=0)


def test_a_retry_is_sent_once_because_a_second_one_would_be_a_second_job(
    connect: Connect, pauses: Pauses
) -> None:
    with ScriptedServer(Hangup()) as server, pytest.raises(ConnectionFailed):
        connect(server).task("t1").retry()
    assert (len(server.asked), pauses.taken) == (1, [])


def test_erasing_twice_is_no_error(connect: Connect) -> None:
    erased = problem(410, "result_expired")
    with ScriptedServer(Answer(204, b""), Hangup(), erased) as server:
        task = connect(server).task("t1")
        task.erase()
        task.erase()
    assert [asked.path for asked in server.asked] == ["/v1/jobs/t1"] * 3


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        ("pending", None, JobNotFinished),
        ("canceled", None, Canceled),
        ("failed", {"code": "worker_lost", "message": "Lost.", "field": None}, WorkerLost),
    ],
)
def test_a_job_without_a_video_says_why(
    state: str,
    error: dict[str, Any] | None,
    kind: type[InfiniteTalkError],
    connect: Connect,
    tmp_path: Path,
) -> None:
    status = said(status=state, error=error, video=None)
    with ScriptedServer(status) as server, pytest.raises(kind):
        connect(server).task("t1").download(tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []
