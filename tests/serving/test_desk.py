"""Taking jobs in: one key one job, limits, budgets, and what a failed submit leaves."""

import json
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.model import Usage
from infinitetalk.jobs.retention import Retention, sweep
from tests.serving.playing import Running, Service

MIDNIGHT = 86400 * 20000.0  # any


def leftovers(service: Service) -> list[str]:
    """Everything on disk that belongs to no job."""
    known = {job.id for job in service.host.store.find()}
    staged = [path.name for path in (service.settings.data_folder / "staging").iterdir()]
    return [*staged, *(name for name in service.host.blobs.ids() if name not in known)]


def test_fifty_submits_at_once_with_one_key_make_one_job(service: Service) -> None:
    barrier = threading.Barrier(50)

    def submit(_: int) -> str:
        barrier.wait()
        return service.submit({"idempotency-key": "the same"}, seed="1")

    with ThreadPoolExecutor(50) as threads:
        ids = set(threads.map(submit, range(50)))
    assert len(ids) == 1
    assert [job.id for job in service.host.store.find()] == list(ids)
    assert leftovers(service) == []


def test_a_key_used_for_another_request_is_refused(service: Service) -> None:
    key = {"idempotency-key": "k"}
    service.submit(key, seed="1")
    answer = service.try_submit(key, seed="2")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert leftovers(service) == []


def test_a_key_without_a_seed_still_means_the_same_request(service: Service) -> None:
    key = {"idempotency-key": "k"}
    assert service.submit(key) == service.submit(key)


def test_a_key_answers_with_its_job_whatever_became_of_it(service: Service) -> None:
    key = {"idempotency-key": "k"}
    task_id = service.submit(key, seed="1")
    service.complete(task_id)
    answer = service.try_submit(key, seed="1").json()
    assert answer == {"task_id": task_id, "status": "completed"}


def test_a_key_is_free_again_when_its_job_is_gone(service: Service) -> None:
    key = {"idempotency-key": "k"}
    task_id = service.submit(key, seed="1")
    service.client.delete(f"/v1/jobs/{task_id}")
    assert service.submit(key, seed="2") != task_id


def test_a_key_is_free_again_after_the_retention_time(run: Running) -> None:
    key = {"idempotency-key": "k"}
    with run(clock=Clock(MIDNIGHT)) as service:
        first = service.submit(key, seed="1")
        ended_at = service.complete(first).completed_at
        assert service.submit(key, seed="1") == first
        host, keep = service.host, Retention(72 * 3600, max_bytes=1e15)
        sweep(host.store, host.blobs, host.outbox, keep, now=ended_at + keep.keep_s + 1)
        assert service.get("/generate/get", task_id=first).json()["code"] == "result_expired"
        assert service.submit(key, seed="2") != first


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    answer = service.try_submit({"idempotency-key": key})
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


def test_a_full_queue_says_when_to_come_back_and_keeps_nothing(run: Running) -> None:
    with run(max_queue=2) as service:
        done = service.submit()
        service.complete(done, Usage(gpu_seconds=7.0))
        service.submit()
        service.submit({"idempotency-key": "k"}, seed="1")
        answer = service.try_submit()
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert answer.json()["retryable"]
        assert answer.headers["retry-after"] == "7"
        assert service.submit({"idempotency-key": "k"}, seed="1")  # it has its place already
        late = service.try_submit({"idempotency-key": "new"})
        assert (late.status_code, late.headers["retry-after"]) == (429, "7")
        retry = service.client.post("/generate/retry", params={"task_id": done})
        assert retry.status_code == 429
        assert leftovers(service) == []


class Clock:
    """Seconds since 1970 that stand still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_spent_budget_refuses_until_midnight(run: Running) -> None:
    clock = Clock(MIDNIGHT + 3600)
    with run(daily_budget_usd=1.5, clock=clock) as service:
        service.complete(service.submit(), Usage(gpu_seconds=1.0, cost_usd=1.0))
        answer = service.try_submit()
        assert (answer.status_code, answer.json()["code"]) == (429, "budget_exhausted")
        assert answer.headers["retry-after"] == str(23 * 3600)
        clock.now = MIDNIGHT + 86400 + 1
        assert service.submit()


def test_jobs_under_way_count_for_the_budget_at_the_measured_price(run: Running) -> None:
    with run(daily_budget_usd=1.0, clock=Clock(MIDNIGHT + 1)) as service:
        service.complete(service.submit(), Usage(gpu_seconds=1.0, cost_usd=0.4))
        service.submit()
        assert service.try_submit().json()["code"] == "budget_exhausted"  # 3 x 0.4 is too much


def test_before_a_price_is_known_one_job_is_taken_at_a_time(run: Running) -> None:
    with run(daily_budget_usd=1.0, clock=Clock(MIDNIGHT + 1)) as service:
        first = service.submit()
        answer = service.try_submit()
        assert (answer.status_code, answer.json()["code"]) == (429, "budget_exhausted")
        service.complete(first, Usage(gpu_seconds=1.0, cost_usd=0.1))
        assert service.submit()
        assert service.submit()


@pytest.mark.parametrize(
    ("error", "status"),
    [("device_unavailable", 503), ("weights_corrupt", 503), ("worker_lost", 200)],
)
def test_a_job_that_no_engine_could_ever_take_is_refused(
    service: Service, error: str, status: int
) -> None:
    service.host.engines.post(Engine("0", EngineState.FAILED, 1, 0.0, "tiny", error=error))
    assert service.try_submit().status_code == status
    service.host.engines.post(Engine("0", EngineState.READY, 2, 0.0, "tiny"))
    assert service.try_submit().status_code == 200


def able(preset: str, resolutions: tuple[str, ...] = (), speakers: int | None = None) -> Engine:
    state = EngineState.READY
    return Engine("0", state, 1, 0.0, preset, resolutions=resolutions, speakers=speakers)


def try_submit_voices(service: Service, voices: int) -> Any:
    with ExitStack() as opened:
        names = {"image": service.portrait, "audio": service.speech, "audio_2": service.speech}
        files = {name: opened.enter_context(path.open("rb")) for name, path in names.items()}
        if voices == 1:
            del files["audio_2"]
        return service.client.post("/generate/submit", files=files)


@pytest.mark.parametrize(
    ("engine", "voices", "field"),
    [
        (able("tiny", ("48p", "96p"), 2), 2, None),
        (able("tiny", ("24p",), 2), 1, "resolution"),
        (able("tiny", ("48p",), 1), 1, None),
        (able("tiny", ("48p",), 1), 2, "audio_2"),
        (able("tiny"), 2, None),  # still loading
        (able("demo", ("128p",), 1), 2, None),  # of the deployment before
    ],
    ids=["able", "too large", "one voice", "two voices", "unknown", "outdated"],
)
def test_what_no_engine_can_render_is_not_taken_in(
    service: Service, engine: Engine, voices: int, field: str | None
) -> None:
    service.host.engines.post(engine)
    answer = try_submit_voices(service, voices)
    assert answer.status_code == (422 if field else 200)
    assert answer.json().get("field") == field
    assert leftovers(service) == []


def test_a_second_voice_for_weights_of_one_is_told_what_helps(service: Service) -> None:
    service.host.engines.post(able("tiny", ("48p",), 1))
    assert "For two, set INFINITETALK_SPEAKERS=2" in try_submit_voices(service, 2).text


def test_an_able_engine_is_enough(service: Service) -> None:
    service.host.engines.post(replace(able("tiny", ("24p",), 1), slot="1"))
    service.host.engines.post(able("tiny", ("48p",), 2))
    assert try_submit_voices(service, 2).status_code == 200


def test_a_retry_asks_what_the_engines_can_do_now(service: Service) -> None:
    task_id = service.submit()
    service.complete(task_id)
    service.host.engines.post(able("tiny", ("24p",), 2))
    answer = service.client.post("/generate/retry", params={"task_id": task_id})
    assert (answer.status_code, answer.json()["field"]) == (422, "resolution")


def test_each_key_has_its_own_budget(run: Running) -> None:
    ann, bob = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))
    with run(daily_budget_usd=1.5, api_keys=("ann", "bob"), clock=Clock(MIDNIGHT + 1)) as service:
        service.complete(service.submit(ann), Usage(gpu_seconds=1.0, cost_usd=1.0))
        assert service.try_submit(ann).status_code == 429
        assert service.try_submit(bob).status_code == 200


def test_a_disk_without_room_takes_no_job(run: Running) -> None:
    with run(min_free_gigabytes=1e9) as service:
        answer = service.try_submit()
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")


def test_a_locked_store_answers_503_and_loses_no_job(service: Service) -> None:
    kept = service.submit()
    answers: list[Any] = []
    with service.host.database.writing():
        answers.append(service.try_submit())
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "store_busy")
    assert answers[0].headers["retry-after"]
    assert leftovers(service) == []
    assert service.status(kept)["status"] == "pending"


def test_a_key_is_no_way_around_the_budget(run: Running) -> None:
    with run(daily_budget_usd=1.0, clock=Clock(MIDNIGHT + 1)) as service:
        task_id = service.submit({"idempotency-key": "k"}, seed="1")
        service.complete(task_id, Usage(gpu_seconds=1.0, cost_usd=1.0))
        assert service.try_submit({"idempotency-key": "new"}).json()["code"] == "budget_exhausted"
        assert service.submit({"idempotency-key": "k"}, seed="1") == task_id


def test_a_retry_with_a_key_is_made_once(service: Service) -> None:
    task_id, key = service.submit(), {"idempotency-key": "k"}
    service.complete(task_id)

    def retry() -> str:
        query = {"task_id": task_id}
        answer = service.client.post("/generate/retry", params=query, headers=key)
        return str(answer.raise_for_status().json()["task_id"])

    assert retry() == retry() != task_id
    assert leftovers(service) == []


def test_a_retry_of_an_unfinished_job_is_refused_as_bentoml_does(service: Service) -> None:
    task_id = service.submit()
    answer = service.client.post("/generate/retry", params={"task_id": task_id})
    assert (answer.status_code, answer.json()["code"]) == (400, "job_not_finished")


ACCENTS = "\N{COMBINING ACUTE ACCENT}" * 10_000
TEXTS = {
    "right to left": ("\N{RIGHT-TO-LEFT OVERRIDE}sufrac \N{HEBREW LETTER ALEF}\u202c", 200),
    "joined emoji": ("\N{WOMAN}\u200d\N{ROCKET} \N{REGIONAL INDICATOR SYMBOL LETTER D}", 200),
    "decomposed": ("Cafe\N{COMBINING ACUTE ACCENT} Zoe\N{COMBINING DIAERESIS}", 200),
    "lines": ("sufrac one\r\nsufrac two\x1b[31m\x85\u2028", 200),
    "lone surrogate": ("sufrac \ud800", 422),
    "nul": ("sufrac \0", 422),
    "ten thousand accents": (f"sufrac {ACCENTS}", 422),
    "2,001 characters": ("sufrac ".ljust(2001, "x"), 422),
    "a megabyte": ("sufrac ".ljust(1_000_000, "x"), 413),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_breaks_a_submit_or_the_log(
    name: str, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    text, status = TEXTS[name]
    with caplog.at_level("DEBUG"):
        answer = service.try_submit(prompt=json.dumps(text))
        assert answer.status_code == status
        if status == 200:
            task_id = answer.json()["task_id"]
            assert service.status(task_id)["status"] == "pending"
            assert service.host.store.get(task_id).spec.prompt == unicodedata.normalize("NFC", text)
    assert "sufrac" not in answer.text + caplog.text
    assert not any(text in record.getMessage() for record in caplog.records)


def test_nothing_of_a_request_is_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    secret = "the-secret-of-this-test"
    with caplog.at_level("DEBUG"):
        task_id = service.submit({"x-api-key": secret}, prompt=secret)
        service.client.put("/generate/cancel", params={"task_id": task_id})
        service.try_submit(image_url=f"http://127.0.0.1/?token={secret}")
    assert task_id in caplog.text
    assert secret not in caplog.text
