"""The video over HTTP: whole, in ranges, conditionally, at the same time."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving.calling import DISCONNECT, call
from tests.serving.playing import SHA256, VIDEO, Service


@pytest.fixture
def done(service: Service) -> str:
    task_id = service.submit()
    service.complete(task_id)
    return task_id


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-99", 206, VIDEO[:100]),
        ("bytes=100-", 206, VIDEO[100:]),
        ("bytes=-100", 206, VIDEO[-100:]),
        (f"bytes={len(VIDEO)}-", 416, None),
    ],
)
def test_a_part_can_be_had(
    service: Service, done: str, asked: str, status: int, part: bytes | None
) -> None:
    query = {"task_id": done}
    answer = service.client.get("/generate/get", params=query, headers={"range": asked})
    assert answer.status_code == status
    assert part is None or answer.content == part


def test_the_etag_is_the_hash_of_the_video(service: Service, done: str) -> None:
    answer = service.get("/generate/get", task_id=done)
    assert answer.headers["etag"] == f'"{SHA256}"'


def test_a_part_of_another_video_is_not_a_part(service: Service, done: str) -> None:
    headers = {"range": "bytes=0-9", "if-range": '"another"'}
    answer = service.client.get("/generate/get", params={"task_id": done}, headers=headers)
    assert (answer.status_code, answer.content) == (200, VIDEO)


def test_who_has_it_already_gets_nothing(service: Service, done: str) -> None:
    headers = {"if-none-match": f'"{SHA256}"'}
    answer = service.client.get("/generate/get", params={"task_id": done}, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")


def test_head_says_all_but_the_bytes(service: Service, done: str) -> None:
    answer = service.client.head("/generate/get", params={"task_id": done})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(VIDEO))


@pytest.mark.skipif(sys.platform != "linux", reason="counts files in /proc")
def test_many_readers_get_the_same_and_leave_no_file_open(service: Service, done: str) -> None:
    def fetch(_: int) -> bytes:
        return bytes(service.get("/generate/get", task_id=done).content)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(fetch, range(24))) == {VIDEO}
    video = str(service.host.blobs.folder(done).result)
    assert video not in [file.path for file in psutil.Process().open_files()]


def test_a_reader_that_goes_away_halfway_leaves_no_file_open(service: Service, done: str) -> None:
    request = httpx.Request("GET", f"http://testserver/generate/get?task_id={done}")
    video = str(service.host.blobs.folder(done).result)
    for _ in range(5):
        *_, piece = call(service, request, [DISCONNECT])
        assert 0 < len(piece["body"]) < len(VIDEO)
    assert video not in [file.path for file in psutil.Process().open_files()]
    assert service.get("/generate/get", task_id=done).content == VIDEO


def test_a_file_that_is_gone_is_expired(service: Service, done: str) -> None:
    Path(service.host.blobs.folder(done).result).unlink()
    assert service.get("/generate/get", task_id=done).status_code == 410
