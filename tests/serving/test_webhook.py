"""What is delivered when a job ends: to whom, in which order, how often, and how it is signed."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest

from infinitetalk.errors import AudioTooShort
from infinitetalk.jobs.model import Problem
from infinitetalk.jobs.outbox import MAX_ATTEMPTS
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from infinitetalk.serving.webhook import Courier
from tests.serving.playing import VIDEO, FileServer, Running, Service, file_server

SECRET = "whsec_123"


class Round:
    """A courier whose clock the test turns."""

    def __init__(self, service: Service, fetcher: Fetcher, secret: str | None) -> None:
        self.now = 1e9
        self._courier = Courier(service.host, fetcher, secret, lambda: self.now)

    def go(self) -> int:
        """One round; how much was tried."""
        return asyncio.run(self._courier.deliver_due())


@pytest.fixture
def other_side() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def fetcher(other_side: FileServer) -> Fetcher:
    return Fetcher(FetchPolicy(allowed_hosts=frozenset({other_side.address}), retries=0))


@pytest.fixture
def service(run: Running, fetcher: Fetcher) -> Iterator[Service]:
    """Without its own courier: the tests walk."""
    with run(fetcher=fetcher) as service:
        for duty in service.backend._duties:
            duty.stop()
        yield service


@pytest.fixture
def courier(service: Service, fetcher: Fetcher) -> Round:
    return Round(service, fetcher, SECRET)


def test_nothing_is_sent_before_the_job_has_ended(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    service.submit(callback_url=f"{other_side.url}/hook")
    assert courier.go() == 0
    assert other_side.received == []


def test_the_news_is_the_status_signed_with_the_secret(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    task_id = service.submit(callback_url=f"{other_side.url}/hook?token=t")
    service.complete(task_id)
    courier.go()
    ((method, path, headers, body),) = other_side.received
    assert (method, path) == ("POST", "/hook?token=t")
    status = json.loads(body)
    assert (status["task_id"], status["status"]) == (task_id, "completed")
    stamp, _, mac = headers["x-infinitetalk-signature"].partition(",v1=")
    signed = stamp.removeprefix("t=").encode() + b"." + body
    assert mac == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


def test_without_a_secret_there_is_no_signature(
    service: Service, fetcher: Fetcher, other_side: FileServer
) -> None:
    service.complete(service.submit(callback_url=f"{other_side.url}/hook"))
    Round(service, fetcher, None).go()
    assert "x-infinitetalk-signature" not in other_side.received[0][2]


@pytest.mark.parametrize("ending", ["failed", "canceled"])
def test_bad_news_is_news_too(
    service: Service, courier: Round, other_side: FileServer, ending: str
) -> None:
    task_id = service.submit(callback_url=f"{other_side.url}/hook")
    if ending == "failed":
        service.fail(task_id, Problem.of(AudioTooShort("Too short.")))
    else:
        service.client.put("/generate/cancel", params={"task_id": task_id})
    courier.go()
    assert json.loads(other_side.received[0][3])["status"] == ending


def test_the_video_is_put_first_and_the_news_says_so(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    task_id = service.submit(
        callback_url=f"{other_side.url}/hook", output_url=f"{other_side.url}/bucket/x.mp4"
    )
    service.complete(task_id)
    courier.go()
    courier.go()
    (put, _, headers, video), (post, _, _, news) = other_side.received
    assert (put, post) == ("PUT", "POST")
    assert (video, headers["content-type"]) == (VIDEO, "video/mp4")
    assert json.loads(news)["deliveries"]["upload"] == "delivered"
    assert service.status(task_id)["deliveries"] == {"upload": "delivered", "webhook": "delivered"}


def test_it_is_repeated_with_growing_pauses_until_it_is_taken(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    other_side.answers += [500, 503, 404]
    task_id = service.submit(callback_url=f"{other_side.url}/hook")
    service.complete(task_id)
    pauses = []
    while service.status(task_id)["deliveries"] == {"webhook": "waiting"}:
        before = courier.now
        while not courier.go():
            courier.now += 1
        pauses.append(courier.now - before)
    assert pauses == [0, 5, 10, 20]
    assert courier.go() == 0


def test_it_is_given_up_in_the_end_and_the_url_is_forgotten(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    other_side.answers += [500] * 99
    task_id = service.submit(callback_url=f"{other_side.url}/hook?token=secret")
    service.complete(task_id)
    for _ in range(20):
        courier.now += 10000
        courier.go()
    assert len(other_side.received) == MAX_ATTEMPTS
    assert service.status(task_id)["deliveries"] == {"webhook": "failed"}
    rows = service.host.database.read("SELECT url FROM deliveries")
    assert [row["url"] for row in rows] == [None]


def test_a_receiver_that_is_gone_is_asked_once(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    other_side.answers += [410]
    task_id = service.submit(callback_url=f"{other_side.url}/hook")
    service.complete(task_id)
    courier.go()
    assert service.status(task_id)["deliveries"] == {"webhook": "failed"}


def test_no_video_is_uploaded_for_a_job_without_one(
    service: Service, courier: Round, other_side: FileServer
) -> None:
    task_id = service.submit(output_url=f"{other_side.url}/bucket/x.mp4")
    service.client.put("/generate/cancel", params={"task_id": task_id})
    courier.go()
    assert other_side.received == []
    assert service.status(task_id)["deliveries"] == {"upload": "failed"}


@pytest.mark.parametrize("field", ["callback_url", "output_url"])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/hook", "url_forbidden"),
        ("http://169.254.169.254/latest", "url_forbidden"),
        ("ftp://example.com/x", "url_invalid"),
    ],
)
def test_forbidden_places_are_refused_at_submit(
    service: Service, field: str, url: str, code: str
) -> None:
    answer = service.try_submit(**{field: url})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, code, field)


def test_the_service_delivers_by_itself(
    run: Running, fetcher: Fetcher, other_side: FileServer
) -> None:
    with run(fetcher=fetcher) as service:
        task_id = service.submit(callback_url=f"{other_side.url}/hook")
        service.complete(task_id)
        with service.client.stream("GET", f"/v1/jobs/{task_id}/events") as stream:
            list(stream.iter_lines())
        while service.status(task_id)["deliveries"]["webhook"] != "delivered":
            pass
    assert json.loads(other_side.received[0][3])["task_id"] == task_id
