"""`infinitetalk ui`: what it refuses before it serves; that it serves is tried in a browser."""

import socket
from pathlib import Path

import pytest

from infinitetalk.cli import main


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["ui", "--url", "http://localhost:1", "--port", str(port)]) == 2
    expected = f"Port {port} cannot be used: choose another. (invalid_field)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_number_that_is_no_port_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--url", "http://localhost:1", "--port", port]) == 2
    assert f"Port {port} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--url", "localhost:3000"], "url_invalid"),
        (["--url", "http://localhost:1", "--header", "Modal-Key=a\nb"], "invalid_field"),
        (["--url", "http://localhost:1", "--api-key", "@nothing.txt"], "file_missing"),
    ],
)
def test_what_cannot_be_connected_with_is_refused(
    arguments: list[str],
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ui", *arguments]) == 2
    assert f"({code})" in capsys.readouterr().err
