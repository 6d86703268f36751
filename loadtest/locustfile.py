"""Locust users that want videos: they submit, ask for the status, download and verify.

    locust -f loadtest/locustfile.py --host http://localhost:3000

Requests keep one name each, so that the statistics have one row for all status calls. The figure
that counts is `TASK generate`: from the submit to the verified video. The first of a run is apart
as `TASK generate first`, because it may wait for a machine to start.
"""

import hashlib
import random
import time
import uuid
from argparse import Namespace
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner

from infinitetalk.errors import InvalidField
from loadtest.budget import Budget, check_affordable
from loadtest.journeys import Journey, append_journey
from loadtest.options import add_options, headers_of

ASSETS = files("infinitetalk.demo") / "assets"
POLL_S = 0.2  # and by chance up to as much again
REFUSED_S = 1.0  # to wait where nothing says how long
TOO_MANY = 429


class NoVideo(Exception):
    """A user did not get a video; the text says at which step."""


@dataclass(slots=True)
class Load:
    """What the users of one run share."""

    options: Namespace
    budget: Budget
    portrait: bytes
    speech: bytes
    started: int = 0
    ended: int = 0
    failed: int = 0

    @property
    def is_good(self) -> bool:
        """Something was rendered, and no more failed than may."""
        return self.ended > 0 and self.failed <= self.options.error_budget * self.ended


@dataclass(slots=True)
class Trip:
    """One journey while it lasts."""

    is_first: bool
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # Idempotency-Key
    started_at: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.perf_counter)
    is_refused: bool = False  # for certain there is no job
    task_id: str | None = None
    status: dict[str, Any] | None = None  # once the job has ended
    submit_s: float | None = None
    size_bytes: int = 0
    failure: BaseException | None = None

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.clock

    def journey(self) -> Journey:
        reason = "" if self.failure is None else str(self.failure) or "the run was over"
        status = self.status or {}
        started = status.get("executed_at")
        return Journey(
            started_at=self.started_at,
            total_s=self.elapsed_s,
            submit_s=self.submit_s,
            wait_s=_seconds_between(status["created_at"], started) if started else None,
            cost_usd=status.get("cost_usd", 0.0),
            is_first=self.is_first,
            failure=reason,
        )


@events.init_command_line_parser.add_listener
def add_all_options(parser: LocustArgumentParser) -> None:
    """Options beside Locust's own."""
    add_options(parser)
    parser.add_argument("--journeys", type=Path, metavar="FILE", help="CSV file to append to")


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
    """The exit code: 1 above the error budget."""
    environment.process_exit_code = 0 if environment.load.is_good else 1


class VideoMaker(HttpUser):
    """Somebody who wants one video after another."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.load: Load = self.environment.load
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
        except BaseException as error:  # Locust ends a user so when the time is over
            trip.failure = error
            raise
        finally:
            self._end(trip)

    def _submit(self, trip: Trip) -> None:
        options = self.load.options
        media = {"image": ("image", self.load.portrait), "audio": ("audio", self.load.speech)}
        with self.client.post(
            "/generate/submit",
            files=media,
            data={"max_seconds": options.video_seconds},
            headers={"Idempotency-Key": trip.key},
            name="/generate/submit" + (" first" if trip.is_first else ""),
            timeout=options.deadline,
            catch_response=True,
        ) as answer:
            trip.is_refused = answer.status_code >= 400
            if answer.status_code == TOO_MANY:
                answer.success()  # what a full queue says is no fault
                answer.request_meta["name"] = "/generate/submit refused"
            elif answer.ok:
                trip.task_id, trip.submit_s = answer.json()["task_id"], trip.elapsed_s
                return
        if answer.status_code != TOO_MANY:
            raise NoVideo(f"submit: {answer.status_code}")
        self._rest(trip, float(answer.headers.get("retry-after", REFUSED_S)))
        self._submit(trip)
