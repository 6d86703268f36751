"""The page in a real browser, on a real server: what a user does, and what is seen meanwhile.

Pictures of the page go to outputs/page/, to be looked at.
"""

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import uvicorn

from infinitetalk.config import load_settings
from infinitetalk.serving.sandbox import Sandbox
from tests.browser import Browser, Page
from tests.running_server import ROOT, RunningServer, free_port
from tests.serving.playing import serving

pytestmark = pytest.mark.browser

SHOTS = ROOT / "outputs" / "page"
SIZES = ((1280, 800), (390, 844))
SCHEMES = ("light", "dark")
LONG_S, SHORT_S = 20.0, 1.0
VIDEO = "document.querySelector('#video')"
JOBS = "JSON.parse(localStorage.getItem('infinitetalk.jobs') ?? '[]')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    variables = {"INFINITETALK_MAX_FILE_MEGABYTES": "4", "INFINITETALK_MAX_AUDIO_SECONDS": "60"}
    with RunningServer(tmp_path_factory.mktemp("server"), **variables) as server:
        server.wait_for_engine()
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(server: RunningServer, browser: Browser) -> Iterator[Page]:
    """The page as a browser shows it that was never here before; it must not complain."""
    page = browser.open(f"{server.url}/ui/")
    page.run("localStorage.clear()")
    page.go(f"{server.url}/ui/")
    page.wait("document.querySelector('#resolution').options.length > 0")
    yield page
    page.close()
    assert page.complaints == []


@pytest.fixture
def voice(make_speech: Callable[..., Path]) -> Path:
    return make_speech(LONG_S, rate=16000, channels=1)


@pytest.fixture
def guarded(tmp_path: Path, portrait: Path, voice: Path) -> Iterator[str]:
    """The address of a server that wants a key and consent, and has no engine."""
    sandbox, wants = Sandbox(load_settings({})), {"api_keys": ("secret",), "require_consent": True}
    with (
        closing(sandbox),
        serving(tmp_path, portrait, voice, sandbox=sandbox, **wants) as service,
        listening(service.client.app) as url,
    ):
        yield url


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An app that was started already, at an address of its own."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def choose(page: Page, portrait: Path, voice: Path) -> None:
    page.choose("#image", portrait)
    page.choose("#audio", voice)
    page.wait("document.querySelector('#audio-drop .wave') !== null")


def status_of(server: RunningServer, page: Page) -> dict[str, Any]:
    """What the server says of the job on the stage."""
    return dict(server.get(f"/v1/jobs/{page.run(f'{JOBS}[0].id')}"))


def shoot(page: Page, name: str) -> None:
    """The page at all sizes, light and dark; nothing may stick out at its side."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for (width, height), scheme in product(SIZES, SCHEMES):
        page.look(width, height, scheme)
        page.shoot(SHOTS / f"{name}-{width}-{scheme}.png")
        assert page.run("document.documentElement.scrollWidth") <= width
    page.look(*SIZES[0], SCHEMES[0])


def test_a_video_plays_while_it_is_made(
    server: RunningServer, page: Page, portrait: Path, voice: Path
) -> None:
    shoot(page, "empty")
    page.drop("#image-drop", [portrait])
    page.drop("#audio-drop", [voice])
    page.wait("document.querySelector('#audio-drop .wave') !== null")
    page.write("#steps", "20")
    page.click("#submit")
    page.wait("document.querySelector('#upload').hidden && !document.querySelector('#job').hidden")
    page.wait("document.querySelectorAll('#windows span').length === 18")

    first = page.wait(f"{VIDEO}.currentTime")
    page.wait(f"{VIDEO}.currentTime > {first} + 0.3")
    assert status_of(server, page)["status"] == "in_progress"
    assert "Drawing window" in page.text("#status") or "Turning window" in page.text("#status")
    shoot(page, "live")

    page.wait("document.querySelector('#status').innerText === 'Done.'", 60)
    page.wait(f"{VIDEO}.duration > {LONG_S} - 0.1", 30)
    shoot(page, "done")
    video = httpx.get(page.wait("document.querySelector('#download').href")).content
    with av.open(io.BytesIO(video)) as file:
        assert sum(1 for _ in file.decode(video=0)) == LONG_S * 25
    assert page.text("#jobs .state") == "done"


def test_a_job_is_canceled_made_again_and_deleted(
    server: RunningServer, page: Page, portrait: Path, voice: Path
) -> None:
    choose(page, portrait, voice)
    page.click("#submit")
    page.click("#cancel")
    page.wait("document.querySelector('#status').innerText === 'Canceled.'")
    canceled = status_of(server, page)
    assert canceled["status"] == "canceled"
    page.click("#retry")
    page.wait(f"{JOBS}.length === 2 && !document.querySelector('#cancel').hidden")
    again = status_of(server, page)
    assert (again["retry_of"], again["seed"]) == (canceled["task_id"], canceled["seed"])
    page.click("#cancel")
    page.click("#delete")
    page.wait(f"{JOBS}.length === 1")
    assert httpx.get(f"{server.url}/v1/jobs/{again['task_id']}").status_code == 410


def test_jobs_of_this_browser_are_there_after_a_reload(
    server: RunningServer, page: Page, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    choose(page, portrait, make_speech(SHORT_S))
    page.click("#submit")
    page.wait("document.querySelector('#status').innerText === 'Done.'", 60)
    page.go(f"{server.url}/ui/")
    page.wait("document.querySelector('#jobs .state')?.innerText === 'done'")
    page.click("#jobs button")
    page.wait(f"{VIDEO}.duration > {SHORT_S} - 0.1")  # the finished file
    page.wait("document.querySelector('#download').checkVisibility()")


def test_a_bad_file_shows_the_servers_sentence(
    page: Page, tmp_path: Path, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    (tmp_path / "face.png").write_text("no picture")
    page.choose("#image", tmp_path / "face.png")
    page.choose("#audio", make_speech(SHORT_S))
    page.click("#submit")
    page.wait("document.querySelector('#image-error').checkVisibility()")
    assert page.text("#image-error") == "image is no JPEG, PNG or WebP picture and no video."
    assert page.run("document.activeElement.id") == "image"
    shoot(page, "refused")
    page.choose("#image", portrait)
    page.wait("!document.querySelector('#image-error').checkVisibility()")


WRONG = {
    "no picture": {"image": None},
    "no voice": {"audio": None},
    "large file": {"image": 4_000_001},
    "long prompt": {"prompt": "a" * 2001},
    "seed in words": {"seed": "one"},
    "negative seed": {"seed": "-1"},
    "seed too large": {"seed": "9223372036854775808"},
    "no steps": {"steps": "0"},
    "too many steps": {"steps": "41"},
    "half a step": {"steps": "1.5"},
    "guidance in words": {"audio_guidance": "strong"},
    "negative guidance": {"text_guidance": "-1"},
    "too much guidance": {"audio_guidance": "20.5"},
    "nearly no seconds": {"max_seconds": "0.1"},
}

ASK_BOTH = """(async () => {
  const { check } = await import('./checks.js');
  const given = %s, info = await (await fetch('../v1/info')).json();
  const file = (size) => size === null ? null : new File([new Uint8Array(size)], 'file');
  const values = { image: 10, audio: 10, prompt: '', seed: '', steps: '', audio_guidance: '',
                   text_guidance: '', max_seconds: '', ...given };
  for (const name of ['image', 'audio']) values[name] = file(values[name]);
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) if (value) body.append(name, value);
  const answer = await (await fetch('../generate/submit', { method: 'POST', body })).json();
  return [check(values, info), answer];
})()"""


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_the_page_refuses_in_the_servers_words(page: Page, given: dict[str, Any]) -> None:
    (field,) = given
    said, answer = page.run(ASK_BOTH % json.dumps(given))
    assert said == {field: answer["error"]}


def test_the_page_refuses_media_in_the_servers_words(
    server: RunningServer, page: Page, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    voice = make_speech(61.0, rate=8000, channels=1)
    choose(page, portrait, voice)
    page.wait("document.querySelector('#audio-error').checkVisibility()")
    with portrait.open("rb") as image, voice.open("rb") as audio:
        files = {"image": image, "audio": audio}
        answer = httpx.post(f"{server.url}/generate/submit", files=files, timeout=30).json()
    assert page.text("#audio-error") == answer["error"]


def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(page: Page) -> None:
    page.run("document.querySelector('details').open = true")
    shoot(page, "more")
    reached = []
    for _ in range(40):
        page.press("Tab", 9)
        reached.append(page.run("document.activeElement.id"))
    wanted = page.run("[...document.querySelectorAll('main :is(input, select, textarea, button)')]"
                      ".filter((one) => one.checkVisibility()).map((one) => one.id)")  # fmt: skip
    assert set(wanted) <= set(reached)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "textbox", "combobox", "link"}
    named = [(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes
             if not node.get("ignored") and node["role"]["value"] in controls]  # fmt: skip
    assert named
    assert all(name for _, name in named)


def test_a_key_and_consent_are_asked_for_where_the_server_wants_them(
    browser: Browser, guarded: str, portrait: Path, make_speech: Callable[..., Path]
) -> None:
    page = browser.open(f"{guarded}/ui/")
    page.wait("document.querySelector('#access').open")
    assert page.text("#notice") == "A valid API key is needed: Authorization: Bearer KEY."
    page.write("#headers", "no header")
    page.click("#access-form .primary")
    assert page.text("#access-error") == '"no header" is not Name: value.'
    page.write("#headers", "X-Door: open")
    page.write("#key", "secret")
    shoot(page, "access")
    page.click("#access-form .primary")
    page.wait("document.querySelector('#deployed').checkVisibility()")
    choose(page, portrait, make_speech(SHORT_S))
    page.click("#submit")
    said = page.text("#consent-error")
    page.write("#consent", "My own face and voice.")
    assert not page.is_shown("#consent-error")
    shoot(page, "consent")
    page.click("#submit")
    page.wait("document.querySelector('#status').innerText.startsWith('Waiting')")
    with portrait.open("rb") as image, make_speech(SHORT_S).open("rb") as audio:
        files, key = {"image": image, "audio": audio}, {"authorization": "Bearer secret"}
        answer = httpx.post(f"{guarded}/generate/submit", files=files, headers=key, timeout=30)
    assert said == answer.json()["error"]
    page.click("#cancel")
    page.wait("document.querySelector('#status').innerText === 'Canceled.'")
    page.close()
    assert page.complaints == []


def test_the_page_of_a_guarded_server_needs_no_key_behind_the_forwarder(
    browser: Browser, guarded: str
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "infinitetalk.cli", "ui", "--url", guarded]
    command += ["--api-key", "secret", "--port", str(port)]
    forwarder = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert forwarder.stderr is not None
    try:
        assert f"http://127.0.0.1:{port}/ui/" in forwarder.stderr.readline()
        page = browser.open(f"http://127.0.0.1:{port}/ui/")
        page.wait("document.querySelector('#deployed').checkVisibility()")
        assert not page.run("document.querySelector('#access').open")
        page.click("#example")
        page.wait("document.querySelector('#audio-drop .wave') !== null")
        page.write("#consent", "A drawn face, a made voice.")
        page.click("#submit")
        page.wait("document.querySelector('#status').innerText.startsWith('Waiting')")
        page.close()
    finally:
        forwarder.send_signal(signal.SIGINT)
        forwarder.communicate(timeout=30)
    assert forwarder.returncode == 130


def test_the_page_names_a_server_that_is_not_there(page: Page) -> None:
    page.call("Network.emulateNetworkConditions",
              offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip
    page.click("#example")
    page.wait("document.querySelector('#form-error').checkVisibility()")
    assert page.text("#form-error") == "The server cannot be reached."
