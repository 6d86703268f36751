"""Where requests go, with which headers, and what is said when nothing comes back."""

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from infinitetalk.client import Client, Patience
from infinitetalk.errors import ConnectionFailed, InvalidField, Unavailable, UrlInvalid
from tests.client.talking import ACCEPTED, Connect, Files, Pauses
from tests.scripted_server import Answer, ScriptedServer, dead_url, said


def test_keys_go_with_the_first_request(connect: Connect) -> None:
    with ScriptedServer(said()) as server:
        connect(server, headers={"Modal-Key": "k"}, api_key="secret").info()
    assert server.asked[0].headers["modal-key"] == "k"
    assert server.asked[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("value", ["", "k\n", "a\nb", " k", "schlüssel"])
def test_a_header_that_cannot_be_sent_is_no_fault_of_the_network(value: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Client("http://127.0.0.1:9", headers={"Modal-Key": value})
    assert refused.value.field == "Modal-Key"
    assert not value or value not in refused.value.message


def test_a_key_of_a_job_that_cannot_be_sent_is_refused(connect: Connect, files: Files) -> None:
    with ScriptedServer() as server, pytest.raises(InvalidField, match="Idempotency-Key"):
        connect(server).submit(*files, idempotency_key="a\nb")


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


def test_nobody_there_is_a_failed_connection(pauses: Pauses) -> None:
    with (
        Client(dead_url(), patience=pauses.patience(3.0)) as client,
        pytest.raises(ConnectionFailed, match=r"http://127.0.0.1:\d+ cannot be reached"),
    ):
        client.info()
    assert pauses.taken == [0.5, 1.0]


def test_a_server_that_is_silent_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            Client(url, timeout_s=0.05, patience=Patience(0)) as client,
            pytest.raises(ConnectionFailed, match="does not answer"),
        ):
            client.info()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server that is trusted here."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_keys_never_follow_a_redirect_out_of_tls(tls: ssl.SSLContext, connect: Connect) -> None:
    with ScriptedServer() as plain, ScriptedServer(tls=tls) as server:
        server.then(Answer(303, b"", {"location": f"{plain.url}/steal"}))
        with pytest.raises(Unavailable, match="redirects"):
            connect(server, api_key="secret").info()
    assert plain.asked == []


def test_a_certificate_that_cannot_be_trusted_will_not_pass(
    tls: ssl.SSLContext, connect: Connect, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with ScriptedServer(tls=tls) as server, pytest.raises(Unavailable, match="cannot be trusted"):
        connect(server).info()
    assert (server.asked, pauses.taken) == ([], [])
