"""A client that does not really wait, and two files for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.client import Client
from tests.client.talking import Connect, Files, Pauses
from tests.scripted_server import ScriptedServer


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def connect(pauses: Pauses) -> Iterator[Connect]:
    """Makes clients of a scripted server."""
    clients: list[Client] = []

    def make(server: ScriptedServer, **options: Any) -> Client:
        clients.append(Client(server.url, **{"patience": pauses.patience(), **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A picture and a voice, as far as the client cares."""
    image, audio = tmp_path / "face.png", tmp_path / "voice.wav"
    image.write_bytes(b"picture" * 10)
    audio.write_bytes(b"sound" * 100)
    return image, audio
