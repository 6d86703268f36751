"""The HTTP face of a fleet, through Modal's own runtime: protocol, auth, results, load, no GPU."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from infinitetalk.client import async_client
from infinitetalk.media.video import VideoFrames
from tests.end_to_end.fleet import Fleet, deployed
from tests.modal_control_plane.plane import ControlPlane
from tests.serving.playing import FileServer, file_server

pytestmark = [  # of BentoML's own imports, and of the folder its client leaves to the collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
]
POLLS, WATCHERS = 200, 300
MakeSpeech = Callable[..., Path]


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with file_server() as files:
        yield files


@pytest.fixture(scope="module")
def fleet(files: FileServer) -> Iterator[Fleet]:
    allowed = {"INFINITETALK_FETCH_ALLOWED_HOSTS": files.address}
    with ControlPlane() as plane, deployed(plane, **allowed) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def speech(make_speech: MakeSpeech) -> Path:
    return make_speech(1.2)


@pytest.fixture(scope="module")
def finished(fleet: Fleet, portrait: Path, speech: Path) -> str:
    task_id = fleet.submit(portrait, speech, prompt="A person talks.")
    status = fleet.ended(task_id)
    assert status["status"] == "completed", f"{status}\n{fleet.logs()}"
    return task_id


def decodes(video: bytes, tmp_path: Path, frames: int) -> bool:
    path = tmp_path / "video.mp4"
    path.write_bytes(video)
    with VideoFrames(path, max_megapixels=10) as film:
        return bool(film.frame(frames - 1).any())


def test_nobody_comes_in_without_a_proxy_token(fleet: Fleet) -> None:
    for path in ("/livez", "/v1/info", "/generate/status?task_id=x"):
        assert httpx.get(f"{fleet.base_url}{path}").status_code == 401


def test_bad_input_is_refused_in_our_words_and_starts_no_gpu(
    fleet: Fleet, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    """Whether the gateway sees it, or the intake that opens the files."""
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound" * 100)
    before = len(fleet.plane.requests_of("FunctionMap"))
    fields = fleet.try_submit(portrait, speech, seed="no number")
    media = fleet.try_submit(portrait, noise)
    assert (fields.status_code, fields.json()["field"]) == (422, "seed")
    assert (media.status_code, media.json()["field"]) == (415, "audio")
    assert media.json()["code"] == "unsupported_media"
    asked = fleet.plane.requests_of("FunctionMap")[before:]
    assert not [one for one in asked if "Generator" in one.function_id]


def test_a_job_is_done_and_its_video_decodes(fleet: Fleet, finished: str, tmp_path: Path) -> None:
    answer = fleet.result(finished)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert decodes(answer.content, tmp_path, 30)


def test_the_answers_are_bentomls(fleet: Fleet, finished: str) -> None:
    answer = fleet.get("/generate/status", params={"task_id": finished})
    assert answer.headers["server"] == "BentoML Service/infinitetalk"
    assert {"task_id", "status", "created_at", "executed_at"} <= answer.json().keys()
    routes = {route["route"] for route in fleet.get("/schema.json").json()["routes"]}
    assert "/generate" in routes


def test_parts_and_repetitions_of_a_video_are_served(fleet: Fleet, finished: str) -> None:
    whole = fleet.result(finished)
    part = fleet.result(finished, Range="bytes=100-199")
    again = fleet.result(finished, **{"If-None-Match": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert again.status_code == 304


def test_states_that_are_no_result_have_their_codes(
    fleet: Fleet, portrait: Path, speech: Path
) -> None:
    assert fleet.result("0" * 32).status_code == 404
    fleet.plane.hold("Generator")
    try:
        waiting = fleet.submit(portrait, speech)
        assert fleet.result(waiting).status_code == 400
        assert fleet.status(waiting)["queue_position"] == 1
        assert fleet.cancel(waiting)["status"] == "canceled"
        assert fleet.result(waiting).status_code == 409
        assert fleet.plane.requests_of("FunctionCallCancel")
    finally:
        fleet.plane.release("Generator")


def test_a_running_job_is_canceled_and_its_engine_takes_the_next(
    fleet: Fleet, portrait: Path, make_speech: MakeSpeech, speech: Path
) -> None:
    running = fleet.submit(portrait, make_speech(30.0))
    fleet.reach(running, 1)
    engine = fleet.engine(running).pid
    assert fleet.cancel(running)["status"] == "canceled"
    following = fleet.submit(portrait, speech)
    assert fleet.ended(following)["status"] == "completed"
    assert [one.pid for one in fleet.plane.containers("Generator")] == [engine]


def test_a_running_job_is_watched_without_a_gpu(
    fleet: Fleet, portrait: Path, make_speech: MakeSpeech, tmp_path: Path
) -> None:
    task_id = fleet.submit(portrait, make_speech(30.0))
    fleet.reach(task_id, 3)
    watch = f"/v1/jobs/{task_id}"
    fleet.wait(task_id, lambda _: fleet.get(f"{watch}/playlist.m3u8").status_code == 200)
    segment = fleet.get(f"{watch}/segments/00000.m4s")
    stream = fleet.get(f"{watch}/segments/init.mp4").content + segment.content
    assert decodes(stream, tmp_path, 33)
    fleet.cancel(task_id)
    assert fleet.get(f"{watch}/playlist.m3u8").status_code == 409


def test_watching_again_asks_the_volume_for_nothing(fleet: Fleet, finished: str) -> None:
    """Nor does it need an engine."""
    watch = f"/v1/jobs/{finished}"
    answers = [fleet.get(f"{watch}/playlist.m3u8") for _ in range(2)]
    fleet.get(f"{watch}/segments/00000.m4s")
    names = ("VolumeListFiles2", "VolumeGetFile2", "FunctionMap")
    before = [len(fleet.plane.requests_of(name)) for name in names]
    answers += [fleet.get(f"{watch}/playlist.m3u8") for _ in range(5)]
    assert fleet.get(f"{watch}/segments/00000.m4s").status_code == 200
    assert [len(fleet.plane.requests_of(name)) for name in names] == before
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].text.endswith("#EXT-X-ENDLIST\n")


def test_the_page_is_shown_by_the_gateway(fleet: Fleet) -> None:
    answer = fleet.get("/ui/")
    assert (answer.status_code, "InfiniteTalk" in answer.text) == (200, True)
    assert fleet.get("/ui/example/portrait.png").headers["content-type"] == "image/png"


def test_one_key_is_one_job(fleet: Fleet, portrait: Path, speech: Path) -> None:
    headers = {"Idempotency-Key": "once"}
    ids = {fleet.try_submit(portrait, speech, headers).json()["task_id"] for _ in range(2)}
    other = fleet.try_submit(portrait, speech, headers, prompt="another")
    assert len(ids) == 1
    assert other.status_code == 422


def test_a_retry_renders_the_same_input_again(fleet: Fleet, finished: str) -> None:
    again = fleet.post("/generate/retry", params={"task_id": finished}).json()["task_id"]
    status = fleet.ended(again)
    assert (status["status"], status["retry_of"]) == ("completed", finished)
    assert status["seed"] == fleet.status(finished)["seed"]


def test_the_stock_client_of_bentoml_works(
    fleet: Fleet, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    async def use() -> Path:
        address = str(fleet.base_url).rstrip("/")
        async with async_client(address, headers=dict(fleet.plane.proxy_token)) as client:
            task = await client.generate.submit(image=portrait, audio=speech, prompt="hi")
            while (await task.get_status()).value not in ("completed", "failed"):
                await asyncio.sleep(0.1)
            return Path(await task.get())

    assert decodes(asyncio.run(use()).read_bytes(), tmp_path, 30)


def test_load_and_metrics_are_told(fleet: Fleet, finished: str) -> None:
    info = fleet.get("/v1/info").json()
    assert info["preset"]["name"] == "tiny"
    assert {engine["state"] for engine in info["engines"]} == {"ready"}
    assert fleet.get("/v1/queue").json()["limit"] == 1000
    metrics = fleet.get("/metrics").text
    assert 'infinitetalk_jobs_total{code="",outcome="completed"}' in metrics
    assert fleet.status(finished)["gpu_seconds"] > 0


def test_the_gateway_has_neither_torch_nor_diffusers(fleet: Fleet, finished: str) -> None:
    """Nor has the intake: no library of theirs is in the memory of either process."""
    for name in ("gateway", "intake"):
        (container,) = fleet.plane.containers(name)
        libraries = Path(f"/proc/{container.pid}/maps").read_text()
        assert "libpython" in libraries or "python" in libraries
        assert "torch" not in libraries, name
        assert "safetensors" not in libraries, name
    (engine,) = fleet.plane.containers("Generator")
    assert "torch" in Path(f"/proc/{engine.pid}/maps").read_text()


def test_polls_and_watchers_do_not_keep_a_submit_out(
    fleet: Fleet, finished: str, portrait: Path, speech: Path
) -> None:
    """Watchers beyond the limit are told the status once and sent away; the others stay."""
    plane = fleet.plane
    plane.hold("Generator")
    for engine in plane.containers("Generator"):
        plane.kill(engine)
    plane.wait(lambda: not plane.containers("Generator"))
    waiting = fleet.submit(portrait, speech)
    with ThreadPoolExecutor(16) as pool, _watching(fleet, waiting) as watched:
        polls = [pool.submit(fleet.status, finished) for _ in range(POLLS)]
        accepted = fleet.submit(portrait, speech)
        assert {poll.result()["status"] for poll in polls} == {"completed"}
        assert watched() == {"retry: 1000": 100, "retry: 5000": WATCHERS - 100}
        assert fleet.status(accepted)["queue_position"] == 2
    plane.release("Generator")
    assert fleet.ended(accepted)["status"] == "completed"


class _watching:
    """Opens `WATCHERS` streams of a job's events and keeps those that stay open."""

    def __init__(self, fleet: Fleet, task_id: str) -> None:
        self._url = f"{str(fleet.base_url).rstrip(chr(47))}/v1/jobs/{task_id}/events"
        self._headers = dict(fleet.plane.proxy_token)

    def __enter__(self) -> Callable[[], Counter[str]]:
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(1)
        self._over = asyncio.Event()
        self._told: list[str] = []
        self._running = self._pool.submit(self._loop.run_until_complete, self._watch())
        return self._count

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._running.result(30)
        self._pool.shutdown()
        self._loop.close()

    def _count(self) -> Counter[str]:
        """What they were told first, as often as it was."""
        ends_at = time.monotonic() + 60
        while len(self._told) < WATCHERS and time.monotonic() < ends_at:
            time.sleep(0.05)
        return Counter(self._told)

    async def _watch(self) -> None:
        limits = httpx.Limits(max_connections=WATCHERS)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=60) as client:
            await asyncio.gather(*(self._one(client) for _ in range(WATCHERS)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", self._url) as answer:
            lines = answer.aiter_lines()  # kept: the stream ends with it
            self._told.append(await anext(lines))
            if self._told[-1] == "retry: 1000":
                await self._over.wait()


def test_the_three_steps_of_the_old_api_work(
    fleet: Fleet, files: FileServer, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    """POST /submit with URLs, HEAD /result, GET /result."""
    files.put("/face.png", portrait.read_bytes())
    files.put("/voice.wav", speech.read_bytes())
    urls = {"image": f"{files.url}/face.png", "audio1": f"{files.url}/voice.wav"}
    call = fleet.post("/submit", json={**urls, "prompt": "hi"}).json()
    assert fleet.head("/result", params=call).status_code in (200, 202)
    fleet.ended(call["call_id"])
    assert fleet.head("/result", params=call).status_code == 200
    assert decodes(fleet.get("/result", params=call).content, tmp_path, 30)


def test_without_weights_a_submit_is_told_the_command_and_no_gpu_starts(
    portrait: Path, speech: Path
) -> None:
    with ControlPlane() as plane, deployed(plane, INFINITETALK_PRESET="standard") as fleet:
        answer = fleet.try_submit(portrait, speech)
        assert (answer.status_code, answer.json()["code"]) == (503, "weights_missing")
        command = "modal run modal_deploy.py::prepare_weights --preset standard"
        assert command in answer.json()["error"]
        assert fleet.get("/readyz").status_code == 200  # finished jobs can still be fetched
        assert plane.requests_of("FunctionMap") == []
