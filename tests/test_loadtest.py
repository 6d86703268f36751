"""The load test itself: what it may cost, what it counts, what it draws and what it leaves."""

import csv
import hashlib
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from infinitetalk.errors import InvalidField
from loadtest.__main__ import main
from loadtest.budget import Budget, check_affordable, is_local
from loadtest.journeys import Journey, append_journey, percentile, read_journeys, summary
from loadtest.load import Load
from loadtest.plot import FAILED, TOTAL, WAITING, draw_run, ticks
from loadtest.queue_watch import Depth
from tests.running_server import ROOT
from tests.scripted_server import Answer, Asked, ScriptedServer, problem, said

VIDEO = b"\0\0\0\x18ftypisom" + bytes(1000)

# What it may cost


def test_without_a_limit_everything_fits() -> None:
    budget = Budget(None)
    assert all(budget.try_open() for _ in range(100))
    budget.close(1e6)
    assert budget.try_open() and not budget.is_used_up


def test_one_job_is_let_through_to_find_out_what_a_job_costs() -> None:
    budget = Budget(10.0)
    assert [budget.try_open() for _ in range(3)] == [True, False, False]
    budget.close(2.0)
    assert [budget.try_open() for _ in range(5)] == [True, True, True, True, False]


def test_open_jobs_count_as_the_dearest_so_far() -> None:
    budget = Budget(10.0)
    for cost in (1.0, 3.0, 1.0):
        assert budget.try_open()
        budget.close(cost)
    assert [budget.try_open() for _ in range(2)] == [True, False]
    assert not budget.is_used_up, "the open one may turn out cheap"
    budget.close(3.0)
    assert not budget.try_open() and budget.is_used_up


def test_a_refused_job_costs_nothing_and_teaches_nothing() -> None:
    budget = Budget(10.0)
    assert budget.try_open()
    budget.close_refused()
    assert [budget.try_open() for _ in range(2)] == [True, False]


def test_a_job_of_which_nothing_is_known_ends_the_spending() -> None:
    budget = Budget(10.0)
    assert budget.try_open()
    budget.close_unknown()
    assert not budget.try_open() and budget.is_used_up


@pytest.mark.parametrize(
    ("failures", "error_budget", "is_good"),
    [
        ([], 1.0, False),
        ([""], 0.0, True),
        (["", "x"], 0.0, False),
        (["", "x"], 0.49, False),
        (["", "x"], 0.5, True),
        (["x"], 1.0, True),
    ],
)
def test_a_run_is_good_within_its_error_budget(
    failures: list[str], error_budget: float, is_good: bool
) -> None:
    load = Load(Namespace(error_budget=error_budget, journeys=None), Budget(None), b"", b"")
    for failure in failures:
        load.note(_journey(1.0, failure=failure))
    assert load.is_good is is_good


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9:1", True),
        ("http://[::1]:3000", True),
        ("http://localhost.example.com", False),
        ("http://0.0.0.0:3000", False),
        ("http://10.0.0.7", False),
        ("https://me--infinitetalk.modal.run", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_another_machine_needs_a_limit(host: str, expected: bool) -> None:
    assert is_local(host) is expected
    check_affordable(host, 1.0)
    if not expected:
        with pytest.raises(InvalidField):
            check_affordable(host, None)


def test_no_load_is_put_on_another_machine_without_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["--host", "http://10.0.0.7", "--output", str(output)]) == 2
    assert "--max-cost" in capsys.readouterr().err
    assert not output.exists()
    command = [sys.executable, "-m", "locust", "--headless", "-f", "loadtest/locustfile.py"]
    command += ["--host", "http://10.0.0.7", "--run-time", "1s"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and "--max-cost" in run.stderr


# What it counts and draws


def _journey(total_s: float, **changes: Any) -> Journey:
    plain = {"started_at": 1000.0, "submit_s": 0.1, "wait_s": 1.0, "cost_usd": 0.25}
    return Journey(**{**plain, "total_s": total_s, "is_first": False, **changes})


def test_journeys_are_read_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "journeys.csv"
    journeys = [
        _journey(2.5, is_first=True),
        _journey(3.0, submit_s=None, wait_s=None, failure='submit: "x", y'),
    ]
    assert read_journeys(path) == []
    for journey in journeys:
        append_journey(path, journey)
    assert read_journeys(path) == journeys


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 50, 5.0), ([1, 2, 3, 4], 50, 2), (range(1, 101), 95, 95), ([3, 1, 2], 100, 3)],
)
def test_a_percentile_is_one_of_the_values(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_the_summary_keeps_the_first_journey_and_failures_apart() -> None:
    journeys = [
        _journey(99.0, is_first=True),
        _journey(2.0),
        _journey(4.0),
        _journey(50.0, failure="generate: worker_lost"),
    ]
    said = summary(journeys)
    assert "end-to-end      2.000    4.000    4.000    4.000    4.000" in said
    assert "The first took 99.00 s" in said
    assert "3 videos, 1 failures, $1.00." in said
    assert "-" in summary([]) and "0 videos" in summary([])


@pytest.mark.parametrize(
    ("highest", "expected"),
    [(4, [0, 1, 2, 3, 4]), (0.9, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (31, [0, 10, 20, 30, 40])],
)
def test_ticks_are_round_and_reach_the_top(highest: float, expected: list[float]) -> None:
    assert ticks(highest) == pytest.approx(expected)


def test_the_plot_shows_the_queue_and_every_journey(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    depths = [Depth(1000.0 + second, 8 if second == 5 else 2, 1) for second in range(11)]
    draw_run(path, depths, [_journey(6.0), _journey(9.0, failure="x")])
    with Image.open(path) as picture:
        waiting, total, failed = (_rows(picture, colour) for colour in (WAITING, TOTAL, FAILED))
    # The panels: y of 0 to 8 jobs is 370 to 60, of 0 to 10 seconds 740 to 440.
    assert {60, 370 - 310 * 2 // 8} <= {y + d for y in waiting for d in (-1, 0, 1)}
    assert 740 - 300 * 6 // 10 in total
    assert 740 - 300 * 9 // 10 in failed


def _rows(picture: Image.Image, colour: str) -> set[int]:
    """Rows of pixels below the legends that hold the colour."""
    wanted = tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
    pixels = picture.load()
    assert pixels is not None
    inside = [*range(55, 375), *range(435, 745)]
    return {y for y in inside for x in range(90, 1171) if pixels[x, y] == wanted}


def test_a_run_without_anything_is_drawn_too(tmp_path: Path) -> None:
    draw_run(tmp_path / "plot.png", [], [])
    assert (tmp_path / "plot.png").stat().st_size > 0


# Whole runs


class Shop:
    """Answers as a service whose jobs are done at once and cost money."""

    def __init__(
        self,
        cost_usd: float,
        *,
        fails_every: int = 0,
        is_slow: bool = False,
        refuses: int = 0,
        sends: bytes = VIDEO,
    ) -> None:
        self.submitted = 0
        self.canceled: set[int] = set()
        self._cost_usd = cost_usd
        self._fails_every = fails_every
        self._is_slow = is_slow
        self._refuses = refuses
        self._sends = sends
        self._lock = threading.Lock()

    def reply(self, asked: Asked) -> Answer:
        if asked.path.startswith("/generate/submit"):
            return self._submit()
        if asked.path.startswith("/generate/status"):
            return self._status(int(asked.path.rpartition("=t")[2]))
        if asked.path.startswith("/generate/cancel"):
            self.canceled.add(int(asked.path.rpartition("=t")[2]))
        if asked.path.startswith("/generate/get"):
            return Answer(200, self._sends)
        return said(pending=0, in_progress=0)

    def _submit(self) -> Answer:
        with self._lock:
            if self._refuses:
                self._refuses -= 1
                return problem(429, "queue_full", {"retry-after": "1"})
            self.submitted += 1
            return said(task_id=f"t{self.submitted}", status="pending")

    def _status(self, number: int) -> Answer:
        is_failed = bool(self._fails_every) and number % self._fails_every == 0
        state = "failed" if is_failed else "completed"
        if self._is_slow:
            state = "canceled" if number in self.canceled else "in_progress"
        video = {"sha256": hashlib.sha256(VIDEO).hexdigest(), "size_bytes": len(VIDEO)}
        return said(
            task_id=f"t{number}",
            status=state,
            created_at="2026-11-22T10:00:00.000",
            executed_at="2026-11-22T10:00:01.500",
            cost_usd=self._cost_usd,
            error={"code": "worker_lost"} if is_failed else None,
            video=None if is_failed else video,
        )


def _run(server: str, output: Path, *options: str) -> int:
    return main(["--host", server, "--output", str(output), "--users", "3", *options])


def test_submitting_stops_before_the_limit_is_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(cost_usd=0.5)
    with ScriptedServer(reply=shop.reply) as server:
        assert _run(server.url, tmp_path, "--max-cost", "2.2", "--seconds", "60") == 0
    assert shop.submitted == 4
    said = capsys.readouterr().out
    assert "4 videos, 0 failures, $2.00." in said
    assert "wait            1.500" in said


def test_more_failures_than_the_error_budget_are_an_exit_code(tmp_path: Path) -> None:
    shop = Shop(cost_usd=0.0, fails_every=2)
    with ScriptedServer(reply=shop.reply) as server:
        assert _run(server.url, tmp_path, "--error-budget", "0.1", "--seconds", "1") == 1
    failures = {journey.failure for journey in read_journeys(tmp_path / "journeys.csv")}
    assert failures == {"", "generate: worker_lost"}


def test_a_job_that_is_too_slow_is_canceled_and_its_cost_counts(tmp_path: Path) -> None:
    shop = Shop(cost_usd=0.5, is_slow=True)
    with ScriptedServer(reply=shop.reply) as server:
        options = ("--max-cost", "0.7", "--deadline", "1", "--seconds", "60")
        assert _run(server.url, tmp_path, *options) == 1
    assert (shop.submitted, shop.canceled) == (1, {1})
    [journey] = read_journeys(tmp_path / "journeys.csv")
    assert (journey.failure, journey.cost_usd) == ("the deadline was over", 0.5)


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    shop, full = Shop(cost_usd=0.0), problem(429, "queue_full", {"retry-after": "1"})
    with ScriptedServer(said(pending=0, in_progress=0), full, full, reply=shop.reply) as server:
        assert _run(server.url, tmp_path, "--seconds", "8") == 0
    with (tmp_path / "statistics.csv").open() as file:
        rows = {cells["Name"]: cells for cells in csv.DictReader(file)}
    assert int(rows["/generate/submit refused"]["Request Count"]) == 2
    assert rows["Aggregated"]["Failure Count"] == "0"


def test_another_video_than_announced_is_a_failure(tmp_path: Path) -> None:
    shop = Shop(cost_usd=0.0, sends=VIDEO[:-1] + b"x")
    with ScriptedServer(reply=shop.reply) as server:
        assert _run(server.url, tmp_path, "--seconds", "1") == 1
    [failure] = {journey.failure for journey in read_journeys(tmp_path / "journeys.csv")}
    assert failure.startswith("get: another video")


def test_a_service_that_takes_nothing_is_a_failure(tmp_path: Path) -> None:
    with ScriptedServer(reply=lambda asked: problem(500, "internal")) as server:
        assert _run(server.url, tmp_path, "--seconds", "1") == 1
    assert {j.failure for j in read_journeys(tmp_path / "journeys.csv")} == {"submit: internal"}


def test_a_run_leaves_a_report_a_table_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(reply=Shop(cost_usd=0.0).reply) as server:
        (tmp_path / "key").write_text("hush\n")
        headers = ("--header", "X-One=a=b", "--header", f"X-Two=@{tmp_path}/key")
        assert _run(server.url, tmp_path, "--seconds", "1", *headers) == 0
    assert {(a.headers["x-one"], a.headers["x-two"]) for a in server.asked} == {("a=b", "hush")}
    assert "hush" not in (tmp_path / "report.html").read_text("utf-8")
    assert "/generate/submit first" in (tmp_path / "report.html").read_text("utf-8")
    with (tmp_path / "statistics.csv").open() as file:
        rows = {cells["Name"]: cells for cells in csv.DictReader(file)}
    journeys = read_journeys(tmp_path / "journeys.csv")
    assert int(rows["generate first"]["Request Count"]) == 1
    assert int(rows["generate"]["Request Count"]) == len(journeys) - 1
    assert set(rows) >= {"/generate/submit first", "/generate/status", "/generate/get"}
    assert (tmp_path / "queue.csv").read_text().startswith("at,pending,in_progress\n")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (1200, 800)


@pytest.mark.slow
def test_a_run_with_a_server_of_its_own_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path), "--seconds", "5"]) == 0
    said = capsys.readouterr().out
    assert " 0 failures" in said
    assert (tmp_path / "server.log").stat().st_size > 0
    port = said.split("http://127.0.0.1:")[1].split(".")[0]
    assert not [p for p in psutil.process_iter(["cmdline"]) if port in (p.info["cmdline"] or [])]
