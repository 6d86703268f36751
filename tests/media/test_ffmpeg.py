import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.errors import StorageFull
from infinitetalk.media import ffmpeg

NOISE = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=60"]
RAW = ["-f", "rawvideo"]
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
DASH = '<?xml version="1.0"?><MPD type="static"><BaseURL>{}</BaseURL></MPD>'


def test_a_failing_command_keeps_its_log_for_us(tmp_path: Path) -> None:
    with pytest.raises(ffmpeg.FFmpegFailed) as failed:
        ffmpeg.run(["-i", f"file:{tmp_path}/nothing", "-f", "null", "-"])
    assert "No such file" in failed.value.log


def test_a_full_disk_is_storage_full() -> None:
    with pytest.raises(StorageFull):
        ffmpeg.run([*NOISE, *RAW, "/dev/full"])


def test_leaving_early_ends_the_process() -> None:
    with ffmpeg.reading([*NOISE, *RAW, "pipe:1"]) as pipe:
        assert len(pipe.read(1000)) == 1000  # the autouse fixture looks for what is left


def test_an_error_inside_the_block_ends_the_process() -> None:
    with pytest.raises(KeyError), ffmpeg.reading([*NOISE, *RAW, "pipe:1"]):
        raise KeyError


def test_a_process_that_stops_listening_says_why() -> None:
    blocks = (bytes(1 << 20) for _ in range(64))
    with pytest.raises(ffmpeg.FFmpegFailed):
        ffmpeg.feed(["-f", "mp3", "-i", "pipe:0", "-f", "null", "-"], blocks)


def test_a_chatty_process_does_not_block(tmp_path: Path) -> None:
    log = ["-f", "lavfi", "-i", "anullsrc=duration=60", "-af", "ashowinfo", "-f", "null", "-"]
    assert ffmpeg.run(log, log_level="info") == b""


@pytest.mark.parametrize("extension", ["mp4", "m3u8", "wav", "txt"])
@pytest.mark.parametrize("kind", ["hls to us", "hls to a file", "ffconcat", "sdp", "dash"])
def test_files_that_name_other_files_are_never_opened(
    tmp_path: Path, make_clip: Callable[..., Path], kind: str, extension: str
) -> None:
    clip = make_clip(tmp_path / "clip.ts", seconds=0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        text = {
            "hls to us": PLAYLIST.format(url),
            "hls to a file": PLAYLIST.format(clip),
            "ffconcat": f"ffconcat version 1.0\nfile {clip.name}\n",
            "sdp": SDP,
            "dash": DASH.format(url),
        }[kind]
        bait = tmp_path / f"bait.{extension}"
        bait.write_text(text)
        assert ffmpeg.banner(bait) is None
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_a_film_that_says_where_it_goes_on_is_not_followed(
    tmp_path: Path, make_clip: Callable[..., Path], extension: str
) -> None:
    """Matroska may name the file of its next part."""
    film = make_clip(tmp_path / "film.mkv", seconds=0.2)
    whole = film.read_bytes()
    names = re.search(rb"\x4d\x80(.)(Lavf[^\x57]*)\x57\x41(.)(Lavf[\d.]*)", whole, re.DOTALL)
    assert names is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}".encode()
        room = names.end() - names.start() - 4
        link = b"\x3e\x83\xbb" + bytes([0x80 | room]) + url.ljust(room, b"\0")
        bait = tmp_path / f"bait.{extension}"
        bait.write_bytes(whole[: names.start()] + link + whole[names.end() :])
        assert "Video: h264" in (ffmpeg.banner(bait) or "")
        assert ffmpeg.count_frames([*ffmpeg.opening(bait), "-map", "0:v"]) == 5
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", ["http:x.mp4", "-y", "concat:a|b", "a'b.mp4", "%03d.mp4", "ü 唇"])
def test_a_name_is_only_a_name(tmp_path: Path, make_clip: Callable[..., Path], name: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.2).rename(tmp_path / name)
    assert "Video: h264" in (ffmpeg.banner(clip) or "")
