"""Whose consent covers a job: demanded, kept for its owner, gone with it."""

from typing import Any

import pytest

from infinitetalk.jobs.model import Job, cancel
from tests.serving.playing import Running, Service

STATED = "Ada Lovelace, release form 2026-114"


def status(service: Service, task_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = service.client.get(f"/v1/jobs/{task_id}").json()
    return answer


def ended(service: Service, task_id: str) -> Job:
    job = service.host.store.get(task_id)
    canceled = cancel(job, now=job.created_at + 1)
    assert service.host.store.replace(job, canceled)
    return canceled


def test_the_owner_reads_what_was_stated(service: Service) -> None:
    task_id = service.submit(consent=f"  {STATED} ")
    assert status(service, task_id)["consent"] == STATED


@pytest.mark.parametrize("fields", [{}, {"consent": ""}, {"consent": "  "}])
def test_none_is_stated_unless_somebody_did(service: Service, fields: dict[str, str]) -> None:
    assert status(service, service.submit(**fields))["consent"] is None


def test_a_statement_that_is_too_long_is_refused(service: Service) -> None:
    answer = service.try_submit(consent="x" * 501)
    assert (answer.status_code, answer.json()["field"]) == (422, "consent")


@pytest.mark.parametrize("fields", [{}, {"consent": "  "}])
def test_a_deployment_may_demand_it(run: Running, fields: dict[str, str]) -> None:
    with run(require_consent=1) as service:
        answer = service.try_submit(**fields).json()
        assert (answer["code"], answer["field"]) == ("consent_missing", "consent")
        assert service.client.get("/v1/info").json()["needs_consent"] is True
        assert status(service, service.submit(consent=STATED))["consent"] == STATED


def test_the_older_api_can_state_it_too(run: Running) -> None:
    urls = {"image": "http://a.invalid/x.png", "audio1": "http://a.invalid/x.wav"}
    with run(require_consent=1) as service:
        assert service.client.post("/submit", json=urls).json()["code"] == "consent_missing"
        told = service.client.post("/submit", json={**urls, "consent": STATED}).json()
        assert told["field"] == "image_url"  # that is looked at next


def test_a_retry_has_the_same_consent(service: Service) -> None:
    task_id = service.submit(consent=STATED)
    ended(service, task_id)
    again = service.client.post("/generate/retry", params={"task_id": task_id}).json()
    assert status(service, again["task_id"])["consent"] == STATED


def test_a_retry_is_refused_when_consent_came_to_be_demanded(run: Running) -> None:
    with run() as service:
        task_id = service.submit()
        ended(service, task_id)
    with run(require_consent=1) as service:
        again = service.client.post("/generate/retry", params={"task_id": task_id})
        assert (again.status_code, again.json()["code"]) == (422, "consent_missing")


def test_an_erased_job_keeps_no_name(service: Service) -> None:
    task_id = service.submit(consent=STATED)
    service.client.delete(f"/v1/jobs/{task_id}")
    assert service.host.store.get(task_id).consent is None
    assert STATED.encode() not in (service.settings.data_folder / "jobs.db").read_bytes()
