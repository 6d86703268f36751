"""Downloads that break off, lie and go on."""

from pathlib import Path

import pytest

from infinitetalk.errors import ConnectionFailed, Unavailable
from tests.client.talking import DONE, VIDEO, Connect, Pauses
from tests.scripted_server import Answer, Hangup, ScriptedServer, headers_of


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
