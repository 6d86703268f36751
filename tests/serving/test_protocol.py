"""BentoML's task protocol over our store: the table of states, cancel, retry, the direct call."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from infinitetalk.errors import AudioTooShort, OutOfMemory
from infinitetalk.jobs.model import Job, Problem, Status, Usage, Video, complete
from tests.serving.calling import DISCONNECT, body_of, call, submitting
from tests.serving.playing import VIDEO, Running, Service

SHORT = Problem.of(AudioTooShort("The speech is too short.", field="audio"))
MEMORY = Problem.of(OutOfMemory("The device ran out of memory."))


def pending(service: Service) -> str:
    return service.submit()


def in_progress(service: Service) -> str:
    task_id = service.submit()
    service.start(task_id)
    return task_id


def completed(service: Service) -> str:
    task_id = service.submit()
    service.complete(task_id)
    return task_id


def failed(service: Service) -> str:
    task_id = service.submit()
    service.fail(task_id, SHORT)
    return task_id


def out_of_memory(service: Service) -> str:
    task_id = service.submit()
    service.fail(task_id, MEMORY)
    return task_id


def canceled(service: Service) -> str:
    task_id = service.submit()
    service.client.put("/generate/cancel", params={"task_id": task_id})
    return task_id


def erased(service: Service) -> str:
    task_id = completed(service)
    service.client.delete(f"/v1/jobs/{task_id}")
    return task_id


def unknown(service: Service) -> str:
    return "0" * 32


# What design section 6 promises: state -> status, get, cancel, retry, /result.
TABLE = [
    (pending, 200, 400, 200, 400, 202),
    (in_progress, 200, 400, 200, 400, 202),
    (completed, 200, 200, 200, 200, 200),
    (failed, 200, 422, 200, 200, 422),
    (out_of_memory, 200, 500, 200, 200, 500),
    (canceled, 200, 409, 200, 200, 409),
    (erased, 410, 410, 410, 410, 410),
    (unknown, 404, 404, 404, 404, 404),
]


@pytest.mark.parametrize(
    ("make", "status", "get", "cancel", "retry", "result"),
    TABLE,
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_every_state_answers_every_call_as_promised(
    service: Service, make: Any, status: int, get: int, cancel: int, retry: int, result: int
) -> None:
    client, task_id = service.client, make(service)
    query = {"task_id": task_id}
    answers = [
        client.get("/generate/status", params=query),
        client.get("/generate/get", params=query),
        client.get("/result", params={"call_id": task_id}),
        client.post("/generate/retry", params=query),
        client.put("/generate/cancel", params=query),
    ]
    assert [a.status_code for a in answers] == [status, get, result, retry, cancel]


@pytest.mark.parametrize(
    ("make", "code", "field"),
    [
        (pending, "job_not_finished", None),
        (in_progress, "job_not_finished", None),
        (failed, "audio_too_short", "audio"),
        (out_of_memory, "gpu_out_of_memory", None),
        (canceled, "canceled", None),
        (erased, "result_expired", None),
        (unknown, "job_not_found", None),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_why_there_is_no_video_is_said_in_the_one_shape_of_errors(
    service: Service, make: Any, code: str, field: str | None
) -> None:
    said = service.get("/generate/get", task_id=make(service)).json()
    assert set(said) == {"error", "code", "field", "retryable", "request_id"}
    assert (said["code"], said["field"]) == (code, field)


STRANGE_IDS = [
    "../../etc/passwd",
    "..%2f..",
    "..",
    "CON",
    "x" * 300,
    "\0",
    "a'--",
    "\N{ROCKET}",
    "",
]


@pytest.mark.parametrize("task_id", STRANGE_IDS, ids=ascii)
def test_what_is_no_id_of_ours_is_no_job_and_no_path(service: Service, task_id: str) -> None:
    client, query = service.client, {"task_id": task_id}
    for answer in (
        client.get("/generate/status", params=query),
        client.get("/generate/get", params=query),
        client.put("/generate/cancel", params=query),
        client.post("/generate/retry", params=query),
        client.get("/result", params={"call_id": task_id}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_new_job_is_pending_and_says_everything_that_is_known(service: Service) -> None:
    status = service.status(service.submit(seed="7", prompt="Hello"))
    assert status["status"] == "pending"
    assert status["seed"] == 7
    assert (status["queue_position"], status["attempt"], status["stage"]) == (1, 0, None)
    assert status["steps"] == 2
    assert status["seconds"] == 1.0
    assert "Hello" not in str(status)


def test_five_hundred_waiting_jobs_know_their_places(service: Service) -> None:
    first = service.host.store.get(service.submit())
    ids = [first.id]
    for number in range(499):
        job = type(first)(f"{number:032x}", first.spec, 1.0, first.created_at)
        ids.append(service.host.store.add(job, limit=1000).id)
    for place in (1, 2, 250, 499, 500):
        assert service.status(ids[place - 1])["queue_position"] == place
    service.start(ids[0])
    assert service.status(ids[0])["queue_position"] is None
    assert service.status(ids[499])["queue_position"] == 499


def test_the_result_is_the_file_with_its_name_and_type(service: Service) -> None:
    task_id = completed(service)
    answer = service.get("/generate/get", task_id=task_id)
    assert answer.content == VIDEO
    assert answer.headers["content-type"] == "video/mp4"
    assert f'filename="{task_id}.mp4"' in answer.headers["content-disposition"]


def test_cancel_by_put_and_by_post_are_final(service: Service) -> None:
    for method in ("PUT", "POST"):
        task_id = service.submit()
        for _ in range(3):
            answer = service.client.request(method, "/generate/cancel", params={"task_id": task_id})
            assert answer.json() == {"task_id": task_id, "status": "canceled"}
    assert service.host.queue.lease("0") is None


def test_cancel_of_a_running_job_takes_it_from_its_engine(service: Service) -> None:
    task_id = service.submit()
    job = service.start(task_id)
    service.client.put("/generate/cancel", params={"task_id": task_id})
    assert not service.host.store.is_current(job)
    assert service.status(task_id)["status"] == "canceled"


def test_cancel_of_a_finished_job_changes_nothing(service: Service) -> None:
    task_id = completed(service)
    answer = service.client.put("/generate/cancel", params={"task_id": task_id})
    assert answer.json()["status"] == "completed"
    assert service.get("/generate/get", task_id=task_id).status_code == 200


class TurningClock:
    """A clock that lets something happen the next time it is read."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        return 1e9


def test_a_job_that_ends_while_it_is_canceled_has_one_end(run: Running) -> None:
    clock = TurningClock()
    with run(clock=clock) as service:
        task_id = service.submit()
        clock.meanwhile = lambda: service.complete(task_id)
        answer = service.client.put("/generate/cancel", params={"task_id": task_id})
        assert answer.json() == {"task_id": task_id, "status": "completed"}
        assert service.get("/generate/get", task_id=task_id).content == VIDEO


def test_a_job_that_starts_while_it_is_canceled_is_canceled(run: Running) -> None:
    clock = TurningClock()
    with run(clock=clock) as service:
        task_id = service.submit()
        leased: list[Job] = []
        clock.meanwhile = lambda: leased.append(service.start(task_id))
        answer = service.client.put("/generate/cancel", params={"task_id": task_id})
        assert answer.json()["status"] == "canceled"
        video = Video("0" * 64, 1, frames=1, windows=1)
        too_late = complete(leased[0], video, Usage(), now=1e9)
        assert not service.host.store.replace(leased[0], too_late)
        assert service.status(task_id)["status"] == "canceled"


@pytest.mark.parametrize("path", ["/generate/submit", "/generate"])
def test_a_client_that_goes_away_after_its_request_has_its_job(run: Running, path: str) -> None:
    with run(wait_seconds=0.1) as service:
        request = submitting(service, path)
        call(service, request, [*body_of(request), DISCONNECT])
        (job,) = service.host.store.find()
        assert job.status is Status.PENDING
        service.complete(job.id)


@pytest.mark.parametrize("path", ["/generate/submit", "/generate"])
def test_a_client_that_goes_away_in_its_request_leaves_nothing(service: Service, path: str) -> None:
    request = submitting(service, path)
    call(service, request, [body_of(request)[0], DISCONNECT])
    assert service.host.store.find() == []
    assert not list((service.settings.data_folder / "staging").iterdir())
    assert not list(service.host.blobs.ids())


def test_a_retry_is_a_new_job_with_the_same_input_and_seed(service: Service) -> None:
    task_id = service.submit(seed="11")
    service.fail(task_id, SHORT)
    again = service.client.post("/generate/retry", params={"task_id": task_id}).json()["task_id"]
    old, new = (service.host.store.get(name) for name in (task_id, again))
    assert (new.spec, new.retry_of, new.status) == (old.spec, old.id, Status.PENDING)
    assert service.host.blobs.folder(again).speech(1).read_bytes()
    service.client.delete(f"/v1/jobs/{task_id}")
    service.complete(again)  # the input does not hang on the first job


def test_the_direct_call_waits_for_the_video(service: Service) -> None:
    answers: list[Any] = []

    def call() -> None:
        answers.append(service.try_submit(path="/generate"))

    caller = threading.Thread(target=call)
    caller.start()
    while not (waiting := service.host.store.find(Status.PENDING)):
        caller.join(0.02)
    service.complete(waiting[0].id)
    caller.join()
    assert answers[0].content == VIDEO
    assert answers[0].headers["x-task-id"] == waiting[0].id


def test_a_direct_call_is_told_at_once_that_the_server_stops(service: Service) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(service.try_submit, path="/generate")
        while not (waiting := service.host.store.find(Status.PENDING)):
            wait([call], timeout=0.02)
        service.backend.drain()
        answer = call.result(timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (504, "wait_timeout")
    assert not answer.json()["retryable"]  # it would be a second job
    assert answer.headers["x-task-id"] == waiting[0].id
    assert service.host.store.get(waiting[0].id).status is Status.PENDING


def test_a_direct_call_that_waits_too_long_tells_how_to_go_on(run: Running) -> None:
    with run(wait_seconds=0.3) as service:
        answer = service.try_submit(path="/generate")
        assert (answer.status_code, answer.json()["code"]) == (504, "wait_timeout")
        assert not answer.json()["retryable"]
        (job,) = service.host.store.find(Status.PENDING)
        assert job.id in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/generate", 405),
        ("GET", "/generate/submit", 405),
        ("DELETE", "/generate/status", 405),
        ("GET", "/generate/", 404),
        ("GET", "/generate/unknown", 404),
        ("POST", "/generate/submit/", 404),
    ],
)
def test_nothing_below_generate_is_left_to_anybody_else(
    service: Service, method: str, path: str, status: int
) -> None:
    reply = service.client.request(method, path)
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "code", "field", "retryable", "request_id"}


@pytest.mark.parametrize("call", ["status", "get"])
def test_a_missing_task_id_is_named(service: Service, call: str) -> None:
    answer = service.get(f"/generate/{call}")
    assert (answer.status_code, answer.json()["field"]) == (400, "task_id")


@pytest.mark.parametrize("path", ["/generate/submit", "/generate"])
def test_bad_input_is_refused_at_once_and_leaves_nothing(service: Service, path: str) -> None:
    answer = service.try_submit(path=path, steps="0")
    assert (answer.status_code, answer.json()["field"]) == (422, "steps")
    assert service.host.store.find() == []
    assert not list((service.settings.data_folder / "staging").iterdir())
    assert not list(service.host.blobs.ids())
