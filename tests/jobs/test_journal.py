"""The line that tells of a finished job."""

import json
from dataclasses import replace
from typing import Any

from infinitetalk import __version__
from infinitetalk.jobs.journal import finished_line
from infinitetalk.jobs.model import Job, Usage, cancel, complete, fail, start
from infinitetalk.progress import Stage
from tests.jobs.records import NOW, PROBLEM, SPEC, VIDEO, a_job

USAGE = Usage(12.3456, 0.0123456789, {Stage.DENOISING: 12.0004}, "sdpa", "NVIDIA L40S")
SECRETS = {
    "prompt": "a wish",
    "negative_prompt": "a fear",
    "owner": "who sent it",
    "fingerprint": "a print",
    "idempotency_key": "a key",
}


def told(job: Job) -> dict[str, Any]:
    line = finished_line(job)
    assert "\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def test_it_says_what_a_completed_job_was_and_cost() -> None:
    running = start(a_job(request_id="r1", losses=1), "0", NOW + 2.5)
    assert told(complete(running, VIDEO, USAGE, NOW + 62.5)) == {
        "event": "job.finished",
        "job_id": running.id,
        "request_id": "r1",
        "status": "completed",
        "code": None,
        "preset": "tiny",
        "resolution": "48p",
        "steps": 2,
        "video_seconds": 1.0,
        "windows": 1,
        "attempt": 1,
        "losses": 1,
        "waited_s": 2.5,
        "total_s": 62.5,
        "stages_s": {"denoising": 12.0},
        "gpu_seconds": 12.346,
        "cost_usd": 0.012346,
        "attention": "sdpa",
        "fallback_windows": 0,
        "gpu": "NVIDIA L40S",
        "version": __version__,
    }


def test_it_says_why_a_job_failed() -> None:
    event = told(fail(start(a_job(), "0", NOW), PROBLEM, NOW))
    assert (event["status"], event["code"], event["windows"]) == ("failed", "internal", None)


def test_a_job_canceled_while_it_waited_has_waited_to_its_end() -> None:
    event = told(cancel(a_job(), NOW + 5))
    assert (event["status"], event["waited_s"], event["total_s"]) == ("canceled", 5.0, 5.0)


def test_a_clock_that_was_turned_back_makes_no_negative_times() -> None:
    event = told(complete(start(a_job(), "0", NOW - 10), VIDEO, USAGE, NOW - 5))
    assert (event["waited_s"], event["total_s"]) == (0.0, 0.0)


def test_it_never_tells_what_is_private() -> None:
    text = {name: SECRETS[name] for name in ("prompt", "negative_prompt")}
    rest = {name: value for name, value in SECRETS.items() if name not in text}
    job = a_job(spec=replace(SPEC, **text), **rest)  # type: ignore[arg-type]
    line = finished_line(cancel(job, NOW))
    assert not [name for name, value in SECRETS.items() if value in line]
