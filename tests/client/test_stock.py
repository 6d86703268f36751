"""BentoML's clients as we repair them, and the client against the real service."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infinitetalk import errors
from infinitetalk.client import Client, async_client, sync_client
from infinitetalk.errors import InvalidField, JobNotFound
from tests.end_to_end.reading import read_video
from tests.running_server import RunningServer
from tests.scripted_server import ScriptedServer, headers_of, said

ASSETS = Path(errors.__file__).parent / "demo" / "assets"


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
