"""From HTTP to a job folder: what is accepted, what is refused with which code and field.

The layers below have their own tables (tests/media, test_body, test_request, test_sandbox,
test_fetch): here each kind of refusal is seen to come out with the field it is about.
"""

import asyncio
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError, StorageFull
from infinitetalk.jobfolder import JobFolder, read_job
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.intake import Accepted, Intake
from infinitetalk.serving.sandbox import Sandbox
from infinitetalk.spec import SpeakingOrder

SETTINGS = Settings(
    max_audio_seconds=3, max_image_megapixels=1, max_video_megapixels=0.02, max_file_megabytes=1
)
Refusal = tuple[int, str, str | None]
Files = Mapping[str, bytes]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(SETTINGS)
    sandbox.start()
    yield sandbox
    sandbox.close()


class Web:
    """A server on loopback, and what was asked of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture(scope="module")
def server(media: Files) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            body = media.get(self.path.partition("?")[0].strip("/"))
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        web = Web(listening.server_port)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield web
        listening.shutdown()
        thread.join()


@pytest.fixture
def web(server: Web) -> Web:
    server.asked.clear()
    return server


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def intake(sandbox: Sandbox, server: Web) -> Intake:
    allowed = replace(SETTINGS, fetch_allowed_hosts=(f"127.0.0.1:{server.port}",))
    return Intake(
        SETTINGS,
        "tiny",
        Fetcher.from_settings(allowed),
        sandbox,
        seeds=lambda: 77,
        free=lambda _: 10**12,
    )


def app(intake: Intake, staging: Path, taken: list[Accepted]) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            taken.append(await intake.take(Request(scope, receive), staging))
            response = JSONResponse({})
        except InfiniteTalkError as error:
            said = {"code": error.code, "field": error.field, "error": error.message}
            response = JSONResponse(said, error.status)
        await response(scope, receive, send)

    return answer


@pytest.fixture
def post(intake: Intake, staging: Path) -> Callable[..., Any]:
    """POST to the intake: what was accepted, or (status, code, field) of the refusal."""

    def run(by: Intake = intake, **request: Any) -> Accepted | Refusal:
        taken: list[Accepted] = []

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app(by, staging, taken))
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.post("http://service/", **request)

        response = asyncio.run(send())
        if taken:
            return taken[0]
        said = response.json()
        assert str(staging) not in said["error"] and "Traceback" not in said["error"]
        return response.status_code, said["code"], said["field"]

    return run


def picture(kind: str, size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def sound(samples: np.ndarray, kind: str = "WAV", subtype: str = "FLOAT") -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, 16000, subtype, format=kind)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 100,000 x 100,000 pixels in 33 bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked


def video(folder: Path, size: str) -> bytes:
    """A silent mp4 of a second, which cannot be opened without its end."""
    path = folder / f"{size}.mp4"
    source = ["-f", "lavfi", "-i", f"testsrc=size={size}:rate=25:duration=1"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


@pytest.fixture(scope="module")
def media(portrait: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Good files and bad ones; none has an ending, because no name is ever used."""
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    moving = {"save_all": True, "append_images": frames, "duration": 100}
    folder = tmp_path_factory.mktemp("made")
    clip = video(folder, "64x48")
    return {
        "face": portrait.read_bytes(),
        "voice": speech.read_bytes(),
        "clip": clip,
        "bomb": bomb(),
        "gif": picture("GIF", **moving),
        "apng": picture("PNG", **moving),
        "webp": picture("WEBP", **moving),
        "tiff": picture("TIFF", **moving),
        "ico": picture("ICO"),
        "eps": picture("EPS"),
        "pdf": picture("PDF"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "html": b"<!doctype html><title>404</title>",
        "empty": b"",
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(4096),
        "fits": b"SIMPLE  =                    T".ljust(2880),
        "half a picture": picture("JPEG")[:300],
        "tiny": picture("PNG", (1, 1)),
        "ribbon": picture("PNG", (900, 100)),
        "no samples": sound(np.zeros(0)),
        "click": sound(np.ones(1600) * 0.1),
        "silence": sound(np.zeros(16000)),
        "nan": sound(np.full(16000, np.nan)),
        "long": sound(np.zeros(4 * 16000), "FLAC", "PCM_16"),
        "half a clip": clip[: len(clip) // 2],
        "large clip": video(folder, "320x240"),
        "playlist": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        "concat": b"ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.mp4'\n",
        "large": b"x" * 1_000_001,
    }


BAD = [
    ("image", "bomb", 422, "image_too_large"),
    ("image", "gif", 415, "unsupported_media"),
    ("image", "apng", 415, "unsupported_media"),
    ("image", "webp", 415, "unsupported_media"),
    ("image", "tiff", 415, "unsupported_media"),
    ("image", "ico", 415, "unsupported_media"),
    ("image", "eps", 415, "unsupported_media"),
    ("image", "pdf", 415, "unsupported_media"),
    ("image", "svg", 415, "unsupported_media"),
    ("image", "psd", 415, "unsupported_media"),
    ("image", "fits", 415, "unsupported_media"),
    ("image", "html", 415, "unsupported_media"),
    ("image", "empty", 422, "image_invalid"),
    ("image", "half a picture", 422, "image_invalid"),
    ("image", "tiny", 422, "image_invalid"),
    ("image", "ribbon", 422, "image_invalid"),
    ("image", "voice", 422, "video_invalid"),
    ("image", "half a clip", 422, "video_invalid"),
    ("image", "large clip", 422, "video_too_large"),
    ("image", "playlist", 415, "unsupported_media"),
    ("image", "concat", 415, "unsupported_media"),
    ("image", "large", 413, "input_too_large"),
    ("audio", "empty", 422, "audio_too_short"),
    ("audio", "no samples", 422, "audio_too_short"),
    ("audio", "click", 422, "audio_too_short"),
    ("audio", "nan", 422, "audio_invalid"),
    ("audio", "long", 422, "audio_too_long"),
    ("audio", "clip", 422, "no_audio_stream"),
    ("audio", "face", 415, "unsupported_media"),
    ("audio", "playlist", 415, "unsupported_media"),
    ("audio", "large", 413, "input_too_large"),
    ("audio_2", "click", 422, "audio_too_short"),
    ("audio_2", "html", 415, "unsupported_media"),
]


@pytest.mark.parametrize(("field", "name", "status", "code"), BAD)
def test_bad_media_are_refused_by_field_and_leave_nothing(
    field: str,
    name: str,
    status: int,
    code: str,
    post: Callable[..., Any],
    media: Files,
    staging: Path,
) -> None:
    files = {"image": media["face"], "audio": media["voice"], field: media[name]}
    named = {role: (f"{role}.png", data, "image/png") for role, data in files.items()}
    assert post(files=named) == (status, code, field)
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "audio", "is_video"),
    [("face", "voice", False), ("clip", "voice", True), ("face", "silence", False)],
)
def test_good_media_become_a_job_and_nothing_else_is_kept(
    image: str,
    audio: str,
    is_video: bool,
    post: Callable[..., Any],
    media: Files,
    staging: Path,
) -> None:
    names = {"image": ("../../CON", media[image]), "audio": ("n" * 300, media[audio])}
    accepted = post(files=names, data={"prompt": '"hello"', "steps": "3", "max_seconds": "null"})
    assert [path.name for path in staging.iterdir()] == ["job"]
    assert accepted.folder == JobFolder(staging / "job")
    assert read_job(accepted.folder) == accepted.spec
    assert (accepted.spec.prompt, accepted.spec.steps, accepted.spec.seed) == ("hello", 3, 77)
    assert accepted.seconds == 1.0
    assert accepted.folder.video.exists() == is_video
    inputs = {path.name for path in (staging / "job" / "input").iterdir()}
    assert inputs == {"scene.video" if is_video else "scene.png", "speech_1.wav", "sound_1"}


LIES = {
    "a video as .jpg": ("clip", "image/jpeg", b""),
    "a picture as .mp4": ("face", "video/mp4", b""),
    "a picture as text": ("face", "text/plain", b""),
    "a page behind a picture": ("face", "text/html", b"<html><script>alert(1)</script>"),
    "an archive behind a picture": ("face", "application/zip", b"PK\3\4 what is in it"),
}


@pytest.mark.parametrize("lie", LIES)
def test_bytes_decide_and_not_what_a_file_is_called(
    lie: str, post: Callable[..., Any], media: Files, staging: Path
) -> None:
    name, declared, behind = LIES[lie]
    image = (lie, media[name] + behind, declared)
    accepted = post(files={"image": image, "audio": ("a.html", media["voice"], "text/html")})
    assert accepted.folder.video.exists() == (name == "clip")
    if behind:
        assert behind not in accepted.folder.picture.read_bytes()


def test_what_a_picture_tells_beside_itself_is_dropped(
    post: Callable[..., Any], media: Files
) -> None:
    exif = Image.Exif()
    exif[0x010E] = exif[0x8298] = "where I live"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told = {"exif": exif, "icc_profile": profile, "comment": b"where I live"}
    accepted = post(files={"image": picture("JPEG", **told), "audio": media["voice"]})
    assert b"where I live" not in accepted.folder.picture.read_bytes()
    with Image.open(accepted.folder.picture) as kept:
        assert (kept.info, len(kept.getexif())) == ({}, 0)


def test_two_voices_have_boxes_and_an_order(post: Callable[..., Any], media: Files) -> None:
    files = {"image": media["face"], "audio": media["voice"], "audio_2": media["voice"]}
    fields = {"boxes": "[[0, 0, 64, 32], [0, 32, 64, 64]]", "order": "one-after-the-other"}
    accepted = post(files=files, data=fields)
    assert accepted.spec.order is SpeakingOrder.ONE_AFTER_THE_OTHER
    assert (accepted.seconds, accepted.folder.speakers) == (2.0, (1, 2))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"boxes": "[[0, 0, 64, 32], [0, 32, 64, 65]]"}, "boxes"),
        ({"steps": "41"}, "steps"),
        ({"resolution": "720p"}, "resolution"),
        ({"preset": "best"}, "preset"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"portrait": "x"}, "portrait"),
        ({"audio_url": "https://example.com/a.wav"}, "audio"),
        ({"image": "https://example.com/a.png"}, "image"),
    ],
)
def test_bad_fields_are_refused_by_name(
    fields: dict[str, str], field: str, post: Callable[..., Any], media: Files, staging: Path
) -> None:
    files = {"image": media["face"], "audio": media["voice"], "audio_2": media["voice"]}
    if field in files:
        del files["image"]
    assert post(files=files, data=fields) == (422, "invalid_field", field)
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("kind", ["json", "data"])
def test_media_come_from_urls_as_well(
    kind: str, post: Callable[..., Any], media: Files, web: Web, staging: Path
) -> None:
    urls = {"image_url": web.url("face?token=1"), "audio_url": web.url("voice")}
    ends = {"callback_url": web.url("told"), "output_url": web.url("put")}
    accepted = post(**{kind: {**urls, **ends, "steps": "3"}})
    assert sorted(web.asked) == ["/face?token=1", "/voice"]
    assert (accepted.callback_url, accepted.output_url) == (web.url("told"), web.url("put"))
    assert accepted.folder.sound(1).read_bytes() == media["voice"]
    assert [path.name for path in staging.iterdir()] == ["job"]


def test_fields_that_were_read_already_are_taken_the_same_way(
    intake: Intake, post: Callable[..., Any], web: Web, tmp_path: Path
) -> None:
    values = {"image_url": web.url("face"), "audio_url": web.url("voice"), "prompt": "hello"}
    (tmp_path / "other").mkdir()
    accepted = asyncio.run(intake.take_fields(values, {}, tmp_path / "other"))
    assert accepted.folder.job.exists()
    assert accepted.fingerprint == post(json=values).fingerprint


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"image_url": "html"}, (415, "unsupported_media", "image")),
        ({"image_url": "large"}, (413, "input_too_large", "image_url")),
        ({"audio_url": "missing"}, (422, "source_unreachable", "audio_url")),
        ({"image_url": "missing"}, (422, "source_unreachable", "image_url")),
    ],
)
def test_what_a_url_gives_is_checked_like_a_file(
    changes: dict[str, str],
    answer: tuple[int, str, str],
    post: Callable[..., Any],
    web: Web,
    staging: Path,
) -> None:
    urls = {"image_url": "face", "audio_url": "voice"} | changes
    assert post(json={field: web.url(path) for field, path in urls.items()}) == answer
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"callback_url": "http://10.0.0.1/"}, "url_forbidden", "callback_url"),
        ({"output_url": "ftp://example.com/"}, "url_invalid", "output_url"),
        ({"audio_url": "http://169.254.169.254/"}, "url_forbidden", "audio_url"),
        ({"audio_2_url": "file:///etc/passwd"}, "url_invalid", "audio_2_url"),
        ({"image_url": ""}, "url_invalid", "image_url"),
        ({"preset": "best"}, "invalid_field", "preset"),
        ({"steps": 0}, "invalid_field", "steps"),
        ({"order": "together"}, "invalid_field", "order"),
    ],
)
def test_what_costs_nothing_is_checked_before_anything_is_fetched(
    changes: dict[str, object], code: str, field: str, post: Callable[..., Any], web: Web
) -> None:
    good = {"image_url": web.url("face"), "audio_url": web.url("voice")}
    assert post(json=good | changes) == (422, code, field)
    assert web.asked == []


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": {"prompt": "x" * 1_000_000}}, 413, "input_too_large"),
        ({"content": b'{"a":' * 10_000}, 400, "malformed_request"),
        ({"content": b'{"seed": NaN}'}, 400, "malformed_request"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media"),
    ],
    ids=["large", "deep", "nan", "plain"],
)
def test_bodies_that_cannot_be_read_have_their_codes(
    request_: dict[str, Any], status: int, code: str, post: Callable[..., Any], staging: Path
) -> None:
    request = {"headers": {"content-type": "application/json"}} | request_
    assert post(**request) == (status, code, None)
    assert list(staging.iterdir()) == []


def test_files_decide_the_fingerprint_and_their_names_do_not(
    post: Callable[..., Any], media: Files
) -> None:
    def fingerprint(image: str, name: str) -> str:
        accepted = post(files={"image": (name, media[image]), "audio": media["voice"]})
        accepted.folder.remove()
        return str(accepted.fingerprint)

    first, renamed = fingerprint("face", "a.png"), fingerprint("face", "b.jpg")
    assert first == renamed != fingerprint("clip", "a.png")


def test_a_full_disk_refuses_before_the_body_is_read(staging: Path) -> None:
    full = Intake(
        SETTINGS,
        "tiny",
        Fetcher.from_settings(SETTINGS),
        Sandbox(SETTINGS),
        free=lambda _: int(0.9e9),
    )

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    scope = {"type": "http", "method": "POST", "headers": []}
    with pytest.raises(StorageFull):
        asyncio.run(full.take(Request(scope, receive), staging))
    assert list(staging.iterdir()) == []


def test_a_client_that_goes_away_leaves_nothing(intake: Intake, staging: Path) -> None:
    start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc'
    messages = iter(
        [
            {"type": "http.request", "body": start, "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(ClientDisconnect):
        asyncio.run(intake.take(request, staging))
    assert list(staging.iterdir()) == []


def test_media_that_crash_their_reader_are_refused(
    post: Callable[..., Any], media: Files, staging: Path
) -> None:
    files = {"image": media["face"], "audio": media["voice"]}
    with closing(Sandbox(SETTINGS, work="tests.serving.faults:misbehave")) as sandbox:
        fragile = Intake(SETTINGS, "tiny", Fetcher.from_settings(SETTINGS), sandbox)
        answer = post(fragile, files=files, data={"prompt": "abort"})
    assert answer == (422, "media_unreadable", None)
    assert list(staging.iterdir()) == []
