"""The client: against servers that refuse, break off and lie, and against the real one."""

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import getmembers, isclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infinitetalk import errors
from infinitetalk.client import Client, Patience, async_client, sync_client
from infinitetalk.client.answers import refusal
from infinitetalk.errors import (
    BudgetExhausted,
    Canceled,
    ConnectionFailed,
    FileMissing,
    InfiniteTalkError,
    InvalidField,
    JobNotFinished,
    JobNotFound,
    QueueFull,
    StorageFull,
    Unauthenticated,
    Unavailable,
    UrlInvalid,
    WaitTimeout,
    WorkerLost,
)
from tests.end_to_end.reading import read_video
from tests.running_server import RunningServer
from tests.scripted_server import (
    Answer,
    Hangup,
    ScriptedServer,
    dead_url,
    headers_of,
    problem,
    said,
)

ASSETS = Path(errors.__file__).parent / "demo" / "assets"
VIDEO = bytes(range(251)) * 2000
SHA256 = hashlib.sha256(VIDEO).hexdigest()
ACCEPTED = said(task_id="t1", status="pending")
DONE = said(
    task_id="t1",
    status="completed",
    error=None,
    video={"sha256": SHA256, "size_bytes": len(VIDEO), "frames": 10, "windows": 1},
)
KINDS = [kind for _, kind in getmembers(errors, isclass) if issubclass(kind, InfiniteTalkError)]


@dataclass
class Pauses:
    """Takes the place of time."""

    taken: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)

    def patience(self, total_s: float = 120.0) -> Patience:
        return Patience(total_s, sleep=self.sleep, chance=lambda low, high: high)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def connect(pauses: Pauses) -> Iterator[Callable[..., Client]]:
    """A client of a scripted server that does not really wait."""
    clients: list[Client] = []

    def make(server: ScriptedServer, **options: Any) -> Client:
        clients.append(Client(server.url, **{"patience": pauses.patience(), **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    image, audio = tmp_path / "face.png", tmp_path / "voice.wav"
    image.write_bytes(b"picture" * 10)
    audio.write_bytes(b"sound" * 100)
    return image, audio


Connect = Callable[..., Client]
Files = tuple[Path, Path]


# Submitting


def test_a_submit_sends_files_and_fields_with_a_key(connect: Connect, files: Files) -> None:
    with ScriptedServer(ACCEPTED) as server:
        task = connect(server).submit(*files, seed=7, prompt="Hello.", steps=None)
    [asked] = server.asked
    assert (task.id, asked.method, asked.path) == ("t1", "POST", "/generate/submit")
    assert len(asked.headers["idempotency-key"]) == 32
    assert b"picture" in asked.body and b"sound" in asked.body
    assert b"face.png" not in asked.body, "the name of a file is nobody's business"
    assert b'name="seed"\r\n\r\n7\r\n' in asked.body
    assert b"steps" not in asked.body


@pytest.mark.parametrize("prompt", ["null", '"in quotes"', "1", "", 'a " b', "Grüße 👋"])
def test_text_is_quoted_so_that_it_arrives_as_it_is(
    prompt: str, connect: Connect, files: Files
) -> None:
    with ScriptedServer(ACCEPTED) as server:
        connect(server).submit(*files, prompt=prompt)
    sent = server.asked[0].body.split(b'name="prompt"\r\n\r\n')[1].split(b"\r\n--")[0]
    assert json.loads(sent) == prompt


def test_what_is_a_url_is_fetched_by_the_server(connect: Connect, files: Files) -> None:
    url = "HTTPS://example.com/voice.wav?token=1"
    with ScriptedServer(ACCEPTED, ACCEPTED) as server:
        client = connect(server)
        client.submit("http://example.com/face.png", url, boxes=[[1, 2, 3, 4]])
        client.submit(files[0], url)
    only_urls, both = server.asked
    assert json.loads(only_urls.body) == {
        "image_url": "http://example.com/face.png",
        "audio_url": url,
        "boxes": [[1, 2, 3, 4]],
    }
    assert b'name="audio_url"' in both.body and b"picture" in both.body


def test_progress_of_an_upload_counts_the_files(connect: Connect, files: Files) -> None:
    seen: list[tuple[int, int]] = []
    with ScriptedServer(ACCEPTED) as server:
        connect(server).submit(*files, on_upload=lambda *moment: seen.append(moment))
    size = sum(path.stat().st_size for path in files)
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_an_upload_is_never_held_in_memory(connect: Connect, files: Files) -> None:
    size = 200_000_000
    with files[0].open("wb") as file:
        file.truncate(size)
    with ScriptedServer(ACCEPTED) as server:
        tracemalloc.start()
        connect(server).submit(*files)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert server.asked[0].size > size
    assert peak < 20_000_000


def test_a_missing_file_is_named_before_anything_is_sent(connect: Connect, files: Files) -> None:
    with ScriptedServer() as server, pytest.raises(FileMissing) as caught:
        connect(server).submit(files[0], "nowhere.wav")
    assert (caught.value.field, server.asked) == ("audio", [])


# Trying again


@pytest.mark.parametrize(
    "passing",
    [
        problem(429, "queue_full"),
        problem(503, "draining"),
        problem(504, "source_timeout"),
        Answer(502, b"<html>Bad Gateway</html>"),
        Answer(503, b""),
        Answer(429, b'{"error": "slow down"}'),
        Hangup(),
        Hangup(reads=10),
        Answer(200, b'{"task_id": "t1"}', cut_at=5),
    ],
    ids=str,
)
def test_a_submit_is_repeated_with_one_key_until_it_is_answered(
    passing: Answer | Hangup, connect: Connect, files: Files
) -> None:
    with ScriptedServer(passing, passing, ACCEPTED) as server:
        assert connect(server).submit(*files).id == "t1"
    assert len(set(headers_of(server.asked, "idempotency-key"))) == 1
    assert b"sound" in server.asked[2].body, "the files are sent from their beginning"


@pytest.mark.parametrize(
    ("final", "kind"),
    [
        (problem(400, "malformed_request"), errors.MalformedRequest),
        (problem(401, "unauthenticated"), Unauthenticated),
        (problem(404, "job_not_found"), JobNotFound),
        (problem(409, "job_busy"), errors.JobBusy),
        (problem(413, "input_too_large"), errors.InputTooLarge),
        (problem(422, "invalid_field"), InvalidField),
        (problem(500, "worker_lost"), WorkerLost),
        (problem(503, "weights_missing"), errors.WeightsMissing),
        (problem(507, "storage_full"), StorageFull),
        (Answer(401, b"missing credentials"), Unauthenticated),
        (Answer(403, b"<html>"), Unauthenticated),
        (Answer(404, b"<html>"), Unavailable),
        (Answer(500, b'["a list"]'), Unavailable),
        (Answer(200, b"<html>hello</html>"), Unavailable),
        (Answer(200, b"[]"), Unavailable),
    ],
)
def test_what_cannot_pass_is_raised_at_once(
    final: Answer, kind: type[InfiniteTalkError], connect: Connect, files: Files, pauses: Pauses
) -> None:
    with ScriptedServer(final) as server, pytest.raises(InfiniteTalkError) as caught:
        connect(server).submit(*files)
    assert (type(caught.value), pauses.taken) == (kind, [])


def test_the_server_says_how_long_to_wait(connect: Connect, pauses: Pauses) -> None:
    full = problem(429, "queue_full", {"retry-after": "7"})
    with ScriptedServer(full, Hangup(), Hangup(), said(pending=0)) as server:
        connect(server).queue()
    assert pauses.taken == [7.0, 1.0, 2.0]


def test_patience_has_an_end(connect: Connect, pauses: Pauses) -> None:
    full = problem(429, "queue_full", {"retry-after": "50"})
    with ScriptedServer(full, full, full) as server, pytest.raises(QueueFull) as caught:
        connect(server).queue()
    assert pauses.taken == [50.0, 50.0]
    assert caught.value.retry_after_s == 50.0


def test_a_budget_that_is_renewed_tomorrow_is_not_waited_for(
    connect: Connect, pauses: Pauses
) -> None:
    spent = problem(429, "budget_exhausted", {"retry-after": "40000"})
    with ScriptedServer(spent) as server, pytest.raises(BudgetExhausted):
        connect(server).queue()
    assert pauses.taken == []


def test_somebody_is_told_of_every_pause(files: Files) -> None:
    heard: list[tuple[str, float]] = []
    patience = Patience(
        on_wait=lambda error, seconds: heard.append((error.code, seconds)),
        sleep=lambda seconds: None,
        chance=lambda low, high: low,
    )
    with (
        ScriptedServer(problem(503, "not_ready"), Hangup(), ACCEPTED) as server,
        Client(server.url, patience=patience) as client,
    ):
        client.submit(*files)
    assert heard == [("not_ready", 0.25), ("connection_failed", 0.5)]


def test_nobody_there_is_a_failed_connection(pauses: Pauses) -> None:
    with (
        Client(dead_url(), patience=pauses.patience(3.0)) as client,
        pytest.raises(ConnectionFailed, match=r"http://127.0.0.1:\d+ cannot be reached"),
    ):
        client.info()
    assert pauses.taken == [0.5, 1.0]


def test_a_retry_is_sent_once_because_a_second_one_would_be_a_second_job(
    connect: Connect, pauses: Pauses
) -> None:
    with ScriptedServer(Hangup()) as server, pytest.raises(ConnectionFailed):
        connect(server).task("t1").retry()
    assert (len(server.asked), pauses.taken) == (1, [])


def test_erasing_twice_is_no_error(connect: Connect) -> None:
    erased = problem(410, "result_expired")
    with ScriptedServer(Answer(204, b""), Hangup(), erased) as server:
        task = connect(server).task("t1")
        task.erase()
        task.erase()
    assert [asked.path for asked in server.asked] == ["/v1/jobs/t1"] * 3


# Errors, keys and redirects


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_the_server_is_rebuilt_as_itself(kind: type[InfiniteTalkError]) -> None:
    error = refusal(httpx.Response(kind.status, content=problem(kind.status, kind.code).body))
    assert (type(error), error.message) == (kind, f"The sentence of {kind.code}.")


def test_a_code_of_tomorrow_keeps_its_sentence(connect: Connect) -> None:
    with ScriptedServer(problem(418, "teapot")) as server, pytest.raises(InfiniteTalkError) as said:
        connect(server).info()
    assert (type(said.value), said.value.message) == (InfiniteTalkError, "The sentence of teapot.")


def test_keys_go_with_the_first_request(connect: Connect) -> None:
    with ScriptedServer(said()) as server:
        connect(server, headers={"Modal-Key": "k"}, api_key="secret").info()
    assert server.asked[0].headers["modal-key"] == "k"
    assert server.asked[0].headers["authorization"] == "Bearer secret"


def test_keys_never_follow_a_redirect_to_another_host(connect: Connect) -> None:
    with ScriptedServer() as other, ScriptedServer() as server:
        away = other.url.replace("127.0.0.1", "localhost")
        server.then(Answer(303, b"", {"location": f"{away}/steal"}))
        with pytest.raises(Unavailable, match="redirects"):
            connect(server, api_key="secret").info()
    assert other.asked == []


def test_a_redirect_on_the_same_host_is_followed(connect: Connect, files: Files) -> None:
    again = Answer(303, b"", {"location": "/generate/submit?call=1"})
    with ScriptedServer(again, ACCEPTED) as server:
        assert connect(server).submit(*files).id == "t1"
    assert server.asked[1].method == "GET"


@pytest.mark.parametrize(
    "url", ["", "localhost:3000", "ftp://host", "http://", "http://host:x", "/x"]
)
def test_a_url_without_a_server_is_refused(url: str) -> None:
    with pytest.raises(UrlInvalid):
        Client(url)


def test_no_message_repeats_a_password(pauses: Pauses) -> None:
    url = dead_url().replace("http://", "http://me:secret@") + "/base?token=secret"
    with Client(url, patience=Patience(0)) as client, pytest.raises(ConnectionFailed) as caught:
        client.info()
    assert "secret" not in caught.value.message


# Waiting


def test_waiting_ends_with_the_last_status(connect: Connect, pauses: Pauses) -> None:
    seen: list[str] = []
    states = ["pending", "in_progress", "failed"]
    with ScriptedServer(*(said(status=state) for state in states)) as server:
        task = connect(server).task("t1")
        last = task.wait(on_status=lambda status: seen.append(status["status"]), poll_s=0.3)
    assert (last["status"], seen, pauses.taken) == ("failed", states, [0.3, 0.3])
    assert {asked.path for asked in server.asked} == {"/generate/status?task_id=t1"}


def test_waiting_is_given_up_when_it_takes_too_long(connect: Connect) -> None:
    with ScriptedServer(said(status="pending")) as server, pytest.raises(WaitTimeout):
        connect(server).task("t1").wait(timeout_s=0)


# Downloading


def _download(server: ScriptedServer, connect: Connect, target: Path) -> Path:
    return connect(server).task("t1").download(target)


def test_a_download_is_whole_or_absent(connect: Connect, tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    moments: list[tuple[int, int]] = []
    with ScriptedServer(DONE, Answer(200, VIDEO)) as server:
        task = connect(server).task("t1")
        assert task.download(target, on_bytes=lambda *moment: moments.append(moment)) == target
    assert target.read_bytes() == VIDEO
    assert list(tmp_path.iterdir()) == [target]
    assert moments[-1] == (len(VIDEO), len(VIDEO))


def test_a_download_that_breaks_off_goes_on_where_it_was(
    connect: Connect, tmp_path: Path, pauses: Pauses
) -> None:
    target = tmp_path / "video.mp4"
    with ScriptedServer(
        DONE,
        Answer(200, VIDEO, cut_at=1000),
        Answer(206, VIDEO[1000:], cut_at=500),
        Hangup(),
        Answer(206, VIDEO[1500:]),
    ) as server:
        _download(server, connect, target)
    assert target.read_bytes() == VIDEO
    assert headers_of(server.asked, "range")[1:] == [
        None,
        "bytes=1000-",
        "bytes=1500-",
        "bytes=1500-",
    ]
    assert pauses.taken == [0.5], "only where nothing came there is something to wait for"


def test_a_download_goes_on_in_another_process(connect: Connect, tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    with ScriptedServer(DONE, Answer(200, VIDEO, cut_at=700), Answer(404, b"")) as server:
        with pytest.raises(Unavailable):
            _download(server, connect, target)
        assert not target.exists()
        server.then(DONE, Answer(206, VIDEO[700:]))
        _download(server, connect, target)
    assert server.asked[-1].headers["range"] == "bytes=700-"
    assert target.read_bytes() == VIDEO
    assert list(tmp_path.iterdir()) == [target]


def test_a_server_that_begins_anew_is_believed(connect: Connect, tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    with ScriptedServer(DONE, Answer(200, VIDEO, cut_at=1000), Answer(200, VIDEO)) as server:
        _download(server, connect, target)
    assert target.read_bytes() == VIDEO


def test_a_damaged_part_is_thrown_away_once(connect: Connect, tmp_path: Path) -> None:
    target = tmp_path / "video.mp4"
    (tmp_path / "video.mp4.t1.part").write_bytes(b"0" * 1000)
    with ScriptedServer(DONE, Answer(206, VIDEO[1000:]), Answer(200, VIDEO)) as server:
        _download(server, connect, target)
    assert target.read_bytes() == VIDEO


@pytest.mark.parametrize(
    "wrong", [VIDEO[::-1], VIDEO + b"more", VIDEO[:-1] + b"x"], ids=["other", "longer", "last"]
)
def test_a_wrong_video_is_refused_and_the_old_file_stays(
    wrong: bytes, connect: Connect, tmp_path: Path
) -> None:
    target = tmp_path / "video.mp4"
    target.write_bytes(b"old")
    with (
        ScriptedServer(DONE, Answer(200, wrong), Answer(200, wrong)) as server,
        pytest.raises(ConnectionFailed, match="damaged"),
    ):
        _download(server, connect, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_video_that_always_ends_too_early_is_given_up(
    connect: Connect, tmp_path: Path, pauses: Pauses
) -> None:
    short = Answer(200, VIDEO[:100])
    with (
        ScriptedServer(DONE, short, short, short) as server,
        pytest.raises(ConnectionFailed, match="breaks off"),
    ):
        connect(server, patience=pauses.patience(1.0)).task("t1").download(tmp_path / "video.mp4")
    assert pauses.taken == [0.5]


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        ("pending", None, JobNotFinished),
        ("canceled", None, Canceled),
        ("failed", {"code": "worker_lost", "message": "Lost.", "field": None}, WorkerLost),
    ],
)
def test_a_job_without_a_video_says_why(
    state: str,
    error: dict[str, Any] | None,
    kind: type[InfiniteTalkError],
    connect: Connect,
    tmp_path: Path,
) -> None:
    status = said(status=state, error=error, video=None)
    with ScriptedServer(status) as server, pytest.raises(kind):
        _download(server, connect, tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


# The real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


MEDIA = {"image": ASSETS / "portrait.png", "audio": ASSETS / "speech.flac"}


def test_a_job_of_the_real_service_from_submit_to_video(client: Client, tmp_path: Path) -> None:
    task = client.submit(**MEDIA, max_seconds=1.2, seed=3)
    status = task.wait(poll_s=0.1)
    assert (status["status"], status["seed"]) == ("completed", 3)
    assert len(read_video(task.download(tmp_path / "video.mp4")).frames) == 30

    again = task.retry()
    again.cancel()
    assert again.wait(poll_s=0.1)["status"] in ("canceled", "completed")
    again.erase()
    with pytest.raises(errors.JobExpired):
        again.status()
    assert client.info()["preset"]["name"] == "tiny"
    assert client.queue()["limit"] > 0


def test_one_key_is_one_job_of_the_real_service(client: Client) -> None:
    ids = {client.submit(**MEDIA, idempotency_key="k1", max_seconds=0.4).id for _ in range(3)}
    assert len(ids) == 1
    client.task(ids.pop()).cancel()


def test_the_real_service_refuses_with_our_errors(client: Client) -> None:
    with pytest.raises(InvalidField) as caught:
        client.submit(**MEDIA, steps=1000)
    assert caught.value.field == "steps"
    with pytest.raises(JobNotFound):
        client.task("unknown").status()


# BentoML 1.4.39 uses what its own dependencies do not like any more.
imports_bentoml = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextmanager
def tidied(stock: Any) -> Iterator[Any]:
    """The client, whose folder of results BentoML would leave to the garbage collector."""
    try:
        yield stock
    finally:
        stock._temp_dir.cleanup()


@imports_bentoml
def test_the_repaired_sync_client_submits_and_closes_its_files(
    server: RunningServer, client: Client
) -> None:
    with tidied(sync_client(server.url)) as stock, stock:
        task = stock.generate.submit(**MEDIA, max_seconds=0.4)
        assert stock._file_manager._opened_files == []
        client.task(task.id).wait(poll_s=0.1)
        assert task.get_status().value == "completed"
        assert len(read_video(task.get()).frames) == 10


@imports_bentoml
def test_the_repaired_async_client_submits(server: RunningServer) -> None:
    async def run() -> str:
        with tidied(async_client(server.url)) as stock:
            async with stock:
                task = await stock.generate.submit(**MEDIA, max_seconds=0.4)
                await task.cancel()
                return str((await task.get_status()).value)

    assert asyncio.run(run()) in ("canceled", "completed")


@imports_bentoml
def test_the_repaired_clients_send_their_headers_from_the_first_request_on() -> None:
    headers = {"Modal-Key": "k", "Modal-Secret": "s"}
    schema = said(name="s", routes=[])

    async def enter(stock: Any) -> None:
        async with stock:
            pass

    with ScriptedServer(said(), schema, said(), schema) as server:
        with tidied(sync_client(server.url, headers)) as stock:
            stock.close()
        with tidied(async_client(server.url, headers)) as stock:
            asyncio.run(enter(stock))
    assert headers_of(server.asked, "modal-key") == ["k"] * 4
    assert headers_of(server.asked, "modal-secret") == ["s"] * 4
