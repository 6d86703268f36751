"""The way from a browser on this machine to a service behind a proxy, and who may not take it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from infinitetalk.client.connection import Connection
from infinitetalk.client.forwarder import Forwarder
from tests.client.talking import VIDEO, Pauses
from tests.scripted_server import Answer, ScriptedServer, said

KEYS = {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
Open = Callable[[str], httpx.Client]


@pytest.fixture
def open_browser(pauses: Pauses) -> Iterator[Open]:
    """A client of a forwarder to the service at a URL."""
    opened: list[tuple[Connection, Forwarder, threading.Thread, httpx.Client]] = []

    def make(url: str) -> httpx.Client:
        connection = Connection(url, KEYS, 5.0, pauses.patience())
        forwarder = Forwarder(0, connection)
        thread = threading.Thread(target=forwarder.serve_forever, args=(0.02,))
        thread.start()
        opened.append((connection, forwarder, thread, httpx.Client(base_url=forwarder.url)))
        return opened[-1][-1]

    yield make
    for connection, forwarder, thread, browser in opened:
        browser.close()
        forwarder.shutdown()
        forwarder.server_close()
        thread.join()
        connection.close()


def test_what_a_browser_asks_reaches_the_service_with_the_keys(open_browser: Open) -> None:
    with ScriptedServer(said(task_id="t1")) as server:
        browser = open_browser(f"{server.url}/below")
        headers = {"idempotency-key": "k", "authorization": "Bearer key", "cookie": "private"}
        answer = browser.post("/generate/submit?a=%20b", content=VIDEO, headers=headers)
        (asked,) = server.asked
    assert answer.json() == {"task_id": "t1"}
    assert (asked.method, asked.path) == ("POST", "/below/generate/submit?a=%20b")
    assert asked.size == len(VIDEO)
    told = {name.lower(): value for name, value in asked.headers.items()}
    assert {name: told.get(name.lower()) for name in KEYS} == KEYS
    assert (told["idempotency-key"], told["authorization"]) == ("k", "Bearer key")
    assert "cookie" not in told


@pytest.mark.parametrize("status", [200, 206, 404, 422, 503])
def test_an_answer_comes_back_as_it_is(open_browser: Open, status: int) -> None:
    script = Answer(status, VIDEO, {"etag": '"e"', "content-type": "video/mp4"})
    with ScriptedServer(script) as server:
        answer = open_browser(server.url).get("/generate/get?task_id=t1")
    assert (answer.status_code, answer.content) == (status, VIDEO)
    assert (answer.headers["etag"], answer.headers["content-type"]) == ('"e"', "video/mp4")


def test_one_connection_serves_many_requests(open_browser: Open) -> None:
    with ScriptedServer(Answer(304, b""), said(a=1), Answer(204, b""), said(a=2)) as server:
        browser = open_browser(server.url)
        answers = [browser.request(m, "/x") for m in ("GET", "POST", "DELETE", "HEAD")]
        assert [answer.status_code for answer in answers] == [304, 200, 204, 200]
        assert answers[1].json() == {"a": 1}


def test_the_bare_address_leads_to_the_page(open_browser: Open) -> None:
    with ScriptedServer() as server:
        answer = open_browser(server.url).get("/")
        assert (answer.status_code, answer.headers["location"]) == (302, "/ui/")
        assert server.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_pages_of_others_may_not_pass(
    open_browser: Open, method: str, headers: dict[str, str]
) -> None:
    with ScriptedServer() as server:
        answer = open_browser(server.url).request(method, "/v1/jobs/t1", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert server.asked == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_itself_passes_under_both_names(open_browser: Open, name: str) -> None:
    with ScriptedServer(said(a=1)) as server:
        browser = open_browser(server.url)
        host = f"{name}:{browser.base_url.port}"
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert browser.post("/x", headers=headers).status_code == 200


def test_a_service_that_is_not_there_is_named_in_a_sentence(open_browser: Open) -> None:
    answer = open_browser("http://127.0.0.1:1").get("/v1/info")
    assert (answer.status_code, answer.json()["code"]) == (502, "connection_failed")
    assert answer.json()["error"].startswith("http://127.0.0.1:1 cannot be reached")


def test_an_answer_that_breaks_off_is_not_taken_for_whole(open_browser: Open) -> None:
    with ScriptedServer(Answer(200, VIDEO, cut_at=100)) as server:
        browser = open_browser(server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            browser.get("/generate/get?task_id=t1")


def test_it_listens_on_this_machine_only(pauses: Pauses) -> None:
    with (
        closing(Connection("http://127.0.0.1:1", {}, 5.0, pauses.patience())) as connection,
        Forwarder(0, connection) as forwarder,
    ):
        assert forwarder.server_address[0] == "127.0.0.1"
