"""Requests as they leave the client."""

import json
import tracemalloc

import pytest

from infinitetalk.errors import FileMissing
from tests.client.talking import ACCEPTED, Connect, Files
from tests.scripted_server import ScriptedServer


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
