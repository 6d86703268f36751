"""Locust users that want videos: they submit, ask for the status, download and verify.

    locust -f loadtest/locustfile.py --host http://localhost:3000

Requests keep one name each, so that the statistics have one row for all status calls. The figure
that counts is `TASK generate`: from the submit to the verified video. The first of a run is apart
as `TASK generate first`, because it may wait for a machine to start.
"""

import csv
import hashlib
import random
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import gevent
from locust import HttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from infinitetalk.errors import InvalidField
from loadtest.budget import Budget, check_affordable
from loadtest.load import Load
from loadtest.options import add_options, headers_of
from loadtest.trip import NoVideo, Trip

ASSETS = files("infinitetalk.demo") / "assets"
POLL_S = 0.2  # and by chance up to as much again
REFUSED_S = 1.0  # to wait where nothing says how long
CALL_S = 60.0  # the longest silence in a call
TOO_MANY = 429
ENDED = ("completed", "failed", "canceled")


@events.init_command_line_parser.add_listener
def add_all_options(parser: LocustArgumentParser) -> None:
    """Options beside Locust's own."""
    add_options(parser)
    add = parser.add_argument
    add("--journeys", type=Path, metavar="FILE", help="CSV file for a line on every video")
    add("--table", type=Path, metavar="FILE", help="CSV file for the statistics at the end")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Refuse what could cost more than was allowed; make what the users share."""
    options = environment.parsed_options
    try:
        check_affordable(environment.host or "", options.max_cost)
    except InvalidField as error:
        raise SystemExit(error.message) from error
    if options.max_cost is not None and not isinstance(environment.runner, LocalRunner):
        raise SystemExit("With --max-cost all users must be in one process.")
    portrait, speech = (ASSETS / name for name in ("portrait.png", "speech.flac"))
    budget = Budget(options.max_cost)
    environment.load = Load(options, budget, portrait.read_bytes(), speech.read_bytes())


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """The exit code, which is 1 above the error budget, and the statistics of the whole run."""
    load: Load = environment.load
    environment.process_exit_code = 0 if load.is_good else 1
    if load.options.table is not None:  # what Locust's own --csv writes is a second old
        with load.options.table.open("w", encoding="utf-8", newline="") as file:
            StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(file))


class VideoMaker(HttpUser):
    """Somebody who wants one video after another."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.load: Load = self.environment.load
        # Once more, because Locust's web page can change the host.
        check_affordable(self.environment.host or "", self.load.options.max_cost)
        self.client.headers.update(headers_of(self.load.options))

    @task
    def make_a_video(self) -> None:
        if not self.load.budget.try_open():
            self._wait_for_money()
            return
        trip = Trip(is_first=self.load.started == 0)
        self.load.started += 1
        try:
            self._submit(trip)
            self._wait(trip)
            self._download(trip)
        except NoVideo as error:
            trip.failure = error
        finally:  # Locust may end a user anywhere; that is no verdict, but it may cost
            self._settle(trip)
        self._report(trip)

    def _submit(self, trip: Trip) -> None:
        while (pause_s := self._try_submit(trip)) is not None:
            self._rest(trip, pause_s)

    def _try_submit(self, trip: Trip) -> float | None:
        """Submit once; how long to wait if the service is too busy."""
        load = self.load
        with self.client.post(
            "/generate/submit",
            files={"image": ("image", load.portrait), "audio": ("audio", load.speech)},
            data={"max_seconds": load.options.video_seconds},
            headers={"Idempotency-Key": trip.key},
            name="/generate/submit first" if trip.is_first else "/generate/submit",
            timeout=load.options.deadline,
            catch_response=True,
        ) as answer:
            trip.is_refused = 400 <= answer.status_code < 500
            if answer.status_code == TOO_MANY:  # a full queue is no fault
                answer.request_meta["name"] = "/generate/submit refused"
                answer.success()
                return float(answer.headers.get("retry-after", REFUSED_S))
            if not answer.ok:
                raise NoVideo(f"submit: {_reason(answer)}")
            trip.task_id, trip.submit_s = answer.json()["task_id"], trip.elapsed_s
            return None

    def _wait(self, trip: Trip) -> None:
        while trip.status is None:
            self._rest(trip, POLL_S * (1 + random.random()))
            self._look(trip)
        if trip.status["status"] != "completed":
            problem = trip.status["error"] or {"code": trip.status["status"]}
            raise NoVideo(f"generate: {problem['code']}")

    def _look(self, trip: Trip) -> None:
        """Ask once; a poll that fails is in the statistics, and the next may not."""
        answer = self.client.get(
            f"/generate/status?task_id={trip.task_id}", name="/generate/status", timeout=CALL_S
        )
        if answer.ok and answer.json()["status"] in ENDED:
            trip.status = answer.json()

    def _download(self, trip: Trip) -> None:
        assert trip.status is not None
        expected = trip.status["video"]
        with self.client.get(
            f"/generate/get?task_id={trip.task_id}",
            name="/generate/get",
            timeout=CALL_S,
            catch_response=True,
        ) as answer:
            if not answer.ok:
                raise NoVideo(f"get: {_reason(answer)}")
            digest = hashlib.sha256(answer.content).hexdigest()
            if digest != expected["sha256"] or answer.content[4:8] != b"ftyp":
                answer.failure("another video than the one that was announced")
                raise NoVideo("get: another video than the one that was announced")
            trip.size_bytes = len(answer.content)

    def _settle(self, trip: Trip) -> None:
        """Whatever happened, learn what it costs."""
        if not trip.is_billed:
            self._abandon(trip)
        if trip.is_refused:
            self.load.budget.close_refused()
        elif trip.status is None:
            self.load.budget.close_unknown()
        else:
            self.load.budget.close(trip.status["cost_usd"])

    def _abandon(self, trip: Trip) -> None:
        """Cancel a job that nobody waits for any more, so that it does not go on costing."""
        with suppress(NoVideo):
            if trip.task_id is None:
                self._try_submit(trip)  # the key tells which job there is, if there is one
            if trip.task_id is not None:
                query = f"task_id={trip.task_id}"
                self.client.put(
                    f"/generate/cancel?{query}", name="/generate/cancel", timeout=CALL_S
                )
                self._look(trip)

    def _report(self, trip: Trip) -> None:
        """Fire the figure and keep the journey."""
        journey = trip.journey()
        self.load.note(journey)
        self.environment.events.request.fire(
            request_type="TASK",
            name="generate first" if trip.is_first else "generate",
            response_time=journey.total_s * 1000,
            response_length=trip.size_bytes,
            exception=trip.failure,
            context={},
        )

    def _rest(self, trip: Trip, seconds: float) -> None:
        if trip.elapsed_s + seconds > self.load.options.deadline:
            raise NoVideo("the deadline was over")
        time.sleep(seconds)

    def _wait_for_money(self) -> None:
        """Other jobs may turn out cheaper than expected; if there are none, the run is over."""
        if self.load.budget.is_used_up and not self.load.is_over:
            self.load.is_over = True
            gevent.spawn(self.environment.runner.quit)  # which waits for all users, this one too
        time.sleep(REFUSED_S)


def _reason(answer: Any) -> str:
    """The code of a refusal, or the status where there is none."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code or "no connection")
