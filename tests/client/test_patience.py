"""What is tried again, how often, and after which pauses."""

import pytest

from infinitetalk.client import Client, Patience
from infinitetalk.errors import BudgetExhausted, QueueFull
from tests.client.talking import ACCEPTED, Connect, Files, Pauses
from tests.scripted_server import Answer, Hangup, ScriptedServer, headers_of, problem, said


@pytest.mark.parametrize(
    "passing",
    [
        problem(429, "queue_full"),
        problem(503, "draining"),
        problem(504, "source_timeout"),
        Answer(502, b"<html>Bad Gateway</html>"),
        Answer(503, b""),
        Answer(429, b'{"error": "slow down"}'),
        Hangup(),
        Hangup(reads=10),
        Answer(200, b'{"task_id": "t1"}', cut_at=5),
    ],
    ids=str,
)
def test_a_submit_is_repeated_with_one_key_until_it_is_answered(
    passing: Answer | Hangup, connect: Connect, files: Files
) -> None:
    with ScriptedServer(passing, passing, ACCEPTED) as server:
        assert connect(server).submit(*files).id == "t1"
    assert len(set(headers_of(server.asked, "idempotency-key"))) == 1
    assert b"sound" in server.asked[2].body, "the files are sent from their beginning"


def test_the_server_says_how_long_to_wait(connect: Connect, pauses: Pauses) -> None:
    full = problem(429, "queue_full", {"retry-after": "7"})
    with ScriptedServer(full, Hangup(), Hangup(), said(pending=0)) as server:
        connect(server).queue()
    assert pauses.taken == [7.0, 1.0, 2.0]


def test_pauses_double_up_to_the_longest(connect: Connect, pauses: Pauses) -> None:
    with ScriptedServer(*[Hangup()] * 7, said(pending=0)) as server:
        connect(server).queue()
    assert pauses.taken == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_patience_has_an_end(connect: Connect, pauses: Pauses) -> None:
    full = problem(429, "queue_full", {"retry-after": "50"})
    with ScriptedServer(full, full, full) as server, pytest.raises(QueueFull) as caught:
        connect(server).queue()
    assert pauses.taken == [50.0, 50.0]
    assert caught.value.retry_after_s == 50.0


def test_a_budget_that_is_renewed_tomorrow_is_not_waited_for(
    connect: Connect, pauses: Pauses
) -> None:
    spent = problem(429, "budget_exhausted", {"retry-after": "40000"})
    with ScriptedServer(spent) as server, pytest.raises(BudgetExhausted):
        connect(server).queue()
    assert pauses.taken == []


def test_somebody_is_told_of_every_pause(files: Files) -> None:
    heard: list[tuple[str, float]] = []
    patience = Patience(
        on_wait=lambda error, seconds: heard.append((error.code, seconds)),
        sleep=lambda seconds: None,
        chance=lambda low, high: low,
    )
    with (
        ScriptedServer(problem(503, "not_ready"), Hangup(), ACCEPTED) as server,
        Client(server.url, patience=patience) as client,
    ):
        client.submit(*files)
    assert heard == [("not_ready", 0.25), ("connection_failed", 0.5)]
