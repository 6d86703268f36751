"""BentoML's own clients, unmodified, and curl, against the real server."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import bentoml
import httpx
import pytest
from _bentoml_impl.tasks import ResultStatus
from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound

from tests.end_to_end.reading import read_video
from tests.running_server import RunningServer
from tests.serving.playing import FileServer

# BentoML imports itself at its first use and is not up to date with what it stands on.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Make = Callable[..., Path]
FRAMES = 50  # of two seconds


@pytest.fixture
def speech(make_speech: Make) -> Path:
    return make_speech(2.0)


def test_the_async_client_sees_a_task_through(
    server: RunningServer, portrait: Path, speech: Path
) -> None:
    async def run() -> tuple[list[ResultStatus], int]:
        async with asynchronous(server) as client:
            # Three jobs, so that the last is seen waiting.
            for _ in range(2):
                await client.generate.submit(image=portrait, audio=speech)
            task = await client.generate.submit(
                image=portrait, audio=speech, prompt="null", seed=3, audio_guidance=1.5
            )
            seen = [await task.get_status()]
            while seen[-1] is not ResultStatus.COMPLETED:
                await asyncio.sleep(0.02)
                if (status := await task.get_status()) != seen[-1]:
                    seen.append(status)
            return seen, len(read_video(await task.get()).frames)

    seen, frames = asyncio.run(run())
    assert seen == [ResultStatus.PENDING, ResultStatus.IN_PROGRESS, ResultStatus.COMPLETED]
    assert frames == FRAMES


def test_the_async_client_cancels_and_retries(
    server: RunningServer, portrait: Path, speech: Path
) -> None:
    async def run() -> None:
        async with asynchronous(server) as client:
            task = await client.generate.submit(image=portrait, audio=speech)
            await task.cancel()
            assert await task.get_status() is ResultStatus.CANCELED
            with pytest.raises(BentoMLException, match="canceled"):
                await task.get()
            again = await task.retry()
            while await again.get_status() is not ResultStatus.COMPLETED:
                await asyncio.sleep(0.05)
            assert await task.get_status() is ResultStatus.CANCELED

    asyncio.run(run())


def test_the_async_client_gets_our_errors(server: RunningServer, portrait: Path) -> None:
    async def run() -> None:
        async with asynchronous(server) as client:
            with pytest.raises(BentoMLException, match="audio is neither a video nor a sound file"):
                await client.generate.submit(image=portrait, audio=portrait)

    asyncio.run(run())


def test_the_direct_call_of_both_clients_gives_the_video(
    server: RunningServer, portrait: Path, speech: Path
) -> None:
    with synchronous(server) as client:
        assert len(read_video(client.generate(image=portrait, audio=speech)).frames) == FRAMES

    async def run() -> int:
        async with asynchronous(server) as client:
            return len(read_video(await client.generate(image=portrait, audio=speech)).frames)

    assert asyncio.run(run()) == FRAMES


def test_the_sync_client_follows_a_task_it_did_not_submit(
    server: RunningServer, portrait: Path, speech: Path
) -> None:
    task_id = curl_multipart(server, portrait, speech)["task_id"]
    with synchronous(server) as client:
        generate = client.generate
        while generate.get_status(task_id) is not ResultStatus.COMPLETED:
            time.sleep(0.05)
        assert len(read_video(generate.get(task_id)).frames) == FRAMES
        again = generate.retry(task_id)
        generate.cancel(again.id)
        assert again.get_status() in (ResultStatus.CANCELED, ResultStatus.COMPLETED)
        with pytest.raises(NotFound):
            generate.get_status("0" * 32)
        with pytest.raises(InvalidArgument):
            generate.get(curl_multipart(server, portrait, speech)["task_id"])


def test_curl_sends_files(server: RunningServer, portrait: Path, speech: Path) -> None:
    """Values without quotes, which BentoML's own parser would take for JSON."""
    answer = curl_multipart(server, portrait, speech, "-F", "prompt=123", "-F", "seed=7")
    assert wait(server, answer["task_id"])["seed"] == 7


def test_curl_sends_urls(
    server: RunningServer, web: FileServer, portrait: Path, speech: Path
) -> None:
    web.put("/face.png", portrait.read_bytes())
    web.put("/voice", speech.read_bytes())
    body = {"image_url": f"{web.url}/face.png", "audio_url": f"{web.url}/voice"}
    as_json = ("-H", "content-type: application/json", "-d", json.dumps(body))
    answer = curl(server, "/generate/submit", *as_json)
    assert wait(server, answer["task_id"])["video"]["frames"] == FRAMES


def test_the_schema_marks_the_task_and_its_files(server: RunningServer) -> None:
    (route,) = server.get("/schema.json")["routes"]
    fields = route["input"]["properties"]
    assert route["is_task"]
    assert [name for name, field in fields.items() if field["type"] == "file"] == [
        *("image", "audio", "audio_2")
    ]
    assert route["output"]["content_type"] == "video/mp4"


def test_our_totals_are_among_bentomls_metrics(server: RunningServer) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    assert "bentoml_service_request_total" in text
    assert "infinitetalk_queue_depth" in text


@asynccontextmanager
async def asynchronous(server: RunningServer) -> "AsyncIterator[bentoml.AsyncHTTPClient]":
    """The stock client as it is; its folder of results is left to the garbage collector."""
    async with bentoml.AsyncHTTPClient(server.url, timeout=120) as client:
        yield client
    client._temp_dir.cleanup()


@contextmanager
def synchronous(server: RunningServer) -> "Iterator[bentoml.SyncHTTPClient]":
    """Likewise."""
    with bentoml.SyncHTTPClient(server.url, timeout=120) as client:
        yield client
    client._temp_dir.cleanup()


def curl(server: RunningServer, path: str, *options: str) -> dict[str, str]:
    command = ["curl", "-sS", f"{server.url}{path}", *options]
    run = subprocess.run(command, check=True, capture_output=True, timeout=60)
    return dict(json.loads(run.stdout))


def curl_multipart(
    server: RunningServer, portrait: Path, speech: Path, *options: str
) -> dict[str, str]:
    files = ("-F", f"image=@{portrait}", "-F", f"audio=@{speech}")
    return curl(server, "/generate/submit", *files, *options)


def wait(server: RunningServer, task_id: str) -> dict[str, object]:
    while (status := server.get(f"/v1/jobs/{task_id}"))["status"] != "completed":
        assert status["status"] in ("pending", "in_progress"), status
        time.sleep(0.05)
    return dict(status)
