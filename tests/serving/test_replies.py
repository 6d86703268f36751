"""The one shape of errors and the id of a request."""

import shutil

import pytest

from tests.serving.playing import Service

SHAPE = {"error", "code", "field", "retryable", "request_id"}


def test_every_answer_carries_the_id_of_its_request(service: Service) -> None:
    answer = service.client.get("/v1/info", headers={"x-request-id": "mine-1.2_3"})
    assert answer.headers["x-request-id"] == "mine-1.2_3"


def test_an_error_carries_it_in_its_body_too(service: Service) -> None:
    answer = service.client.get("/v1/jobs/x", headers={"x-request-id": "mine"})
    assert set(answer.json()) == SHAPE
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'x"', "x;y", "<x>"])
def test_an_odd_id_is_replaced(service: Service, given: str) -> None:
    answer = service.client.get("/v1/info", headers={"x-request-id": given})
    assert len(answer.headers["x-request-id"]) == 32


def test_the_id_is_kept_with_the_job(service: Service) -> None:
    task_id = service.submit({"x-request-id": "mine"})
    assert service.host.store.get(task_id).request_id == "mine"


def test_a_fault_of_ours_says_nothing_but_that(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(service.settings.data_folder / "staging")
    answer = service.try_submit()
    assert answer.status_code == 500
    assert answer.json()["error"] == "Something broke that should not."
    assert answer.json()["code"] == "internal"
    assert "Traceback" in caplog.text
