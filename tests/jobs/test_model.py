"""States of a job and the records between them."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinitetalk.errors import StorageFull
from infinitetalk.jobs.model import (
    MAX_LOSSES,
    IllegalTransition,
    Problem,
    Status,
    Usage,
    cancel,
    complete,
    fail,
    hand_back,
    job_from_json,
    job_to_json,
    lose,
    new_id,
    start,
    transition,
)
from infinitetalk.progress import Stage
from infinitetalk.spec import Apg, Box, SpeakingOrder
from tests.jobs.records import NOW, PROBLEM, SPEC, STEP, VIDEO, a_job

P, R, C, F, X = Status
ALLOWED = {(P, R), (P, F), (P, X), (R, P), (R, C), (R, F), (R, X)}


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_only_the_drawn_transitions_exist(before: Status, after: Status) -> None:
    job = a_job(status=before)
    if (before, after) in ALLOWED:
        assert transition(job, after) == replace(job, status=after)
    else:
        with pytest.raises(IllegalTransition):
            transition(job, after)


def test_completed_failed_and_canceled_are_final() -> None:
    assert {status for status in Status if status.is_terminal} == {C, F, X}


def test_every_lease_is_a_new_attempt_and_the_first_one_is_remembered() -> None:
    first = start(a_job(), "0", NOW)
    again = start(hand_back(first), "1", NOW + 60)
    assert (first.worker, first.attempt, first.executed_at) == ("0", 1, NOW)
    assert (again.worker, again.attempt, again.executed_at) == ("1", 2, NOW)


def test_handing_back_is_no_loss() -> None:
    job = start(a_job(losses=1), "0", NOW)
    assert hand_back(job) == replace(job, status=P, worker=None)


def test_a_job_is_lost_so_often_and_then_fails_for_the_last_reason() -> None:
    job = a_job()
    for losses in range(1, MAX_LOSSES):
        job = lose(start(job, "0", NOW), PROBLEM, NOW)
        assert (job.status, job.losses, job.worker, job.error) == (P, losses, None, None)
    last = Problem.of(StorageFull("The disk is full."))
    job = lose(start(job, "0", NOW), last, NOW + 1)
    assert (job.status, job.losses, job.error) == (F, MAX_LOSSES, last)
    assert job.completed_at == NOW + 1


def test_ends_say_when_and_what() -> None:
    job = start(a_job(), "0", NOW)
    usage = Usage(1.0, 0.5)
    done = complete(job, VIDEO, usage, NOW + 1)
    assert (done.result, done.usage, done.completed_at) == (VIDEO, usage, NOW + 1)
    failed = fail(job, PROBLEM, NOW + 1)
    assert (failed.error, failed.completed_at) == (PROBLEM, NOW + 1)
    assert cancel(a_job(), NOW + 1).completed_at == NOW + 1


def test_a_problem_is_what_the_error_says() -> None:
    problem = Problem.of(StorageFull("The disk is full.", field="image"))
    assert problem == Problem("storage_full", "The disk is full.", 507, True, "image")


@given(st.text(), st.text())
def test_any_text_survives_as_ascii(prompt: str, owner: str) -> None:
    job = a_job(spec=replace(SPEC, prompt=prompt), owner=owner)
    text = job_to_json(job)
    assert text.isascii() and "\x00" not in text
    assert job_from_json(text) == job


def test_a_record_with_everything_survives() -> None:
    spec = replace(
        SPEC,
        order=SpeakingOrder.ONE_AFTER_THE_OTHER,
        boxes=(Box(0, 0, 10, 10), Box(0, 10, 10, 20)),
        apg=Apg(),
        max_seconds=2.5,
    )
    usage = Usage(1.5, 0.1, {Stage.DENOISING: 1.0, Stage.DECODING: 0.5}, "sdpa", "L40S")
    job = a_job(spec=spec, progress=STEP, usage=usage, error=PROBLEM, result=VIDEO)
    again = job_from_json(job_to_json(job))
    assert again == job
    assert isinstance(next(iter(again.usage.stages)), Stage)


def test_ids_are_32_hex_digits_and_never_the_same() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in ids)
