"""The routes beside the task protocol: the old API, job pages, queue, info, live events."""

import json
import threading
from pathlib import Path

import pytest

from infinitetalk import __version__
from infinitetalk.jobs.model import cancel
from infinitetalk.serving.fetch import Fetcher, FetchPolicy
from tests.serving.playing import VIDEO, Running, Service, file_server


def test_the_old_api_takes_urls_and_gives_a_call_id(run: Running, tmp_path: Path) -> None:
    with file_server() as files, run(fetcher=_fetcher(files.address)) as service:
        files.put("/face", service.portrait.read_bytes())
        files.put("/voice", service.speech.read_bytes())
        body = {"image": f"{files.url}/face", "audio1": f"{files.url}/voice", "prompt": "Hi"}
        answer = service.client.post("/submit", json=body)
        call_id = answer.json()["call_id"]
        assert service.get("/result", call_id=call_id).status_code == 202
        service.complete(call_id)
        result = service.get("/result", call_id=call_id)
        assert (result.status_code, result.content) == (200, VIDEO)
        assert service.client.head("/result", params={"call_id": call_id}).content == b""


def test_what_the_url_of_a_file_hides_is_kept_nowhere(
    run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sesame-of-this-test"
    with file_server() as files, run(fetcher=_fetcher(files.address)) as service:
        files.put(f"/face?token={secret}", service.portrait.read_bytes())
        files.put(f"/voice?token={secret}", service.speech.read_bytes())
        urls = {name: f"{files.url}/{name}?token={secret}" for name in ("face", "voice")}
        body = {"image_url": urls["face"], "audio_url": urls["voice"]}
        with caplog.at_level("DEBUG"):
            answer = service.client.post("/generate/submit", json=body)
            task_id = answer.json()["task_id"]
            service.complete(task_id)
            told = [answer, service.get(f"/v1/jobs/{task_id}"), service.get("/v1/metrics")]
        kept = [path for path in service.settings.data_folder.rglob("*") if path.is_file()]
        assert kept
        assert not [path for path in kept if secret.encode() in path.read_bytes()]
    assert not [answer for answer in told if secret in answer.text]
    assert secret not in caplog.text


def test_the_old_api_knows_its_own_fields_only(service: Service) -> None:
    answer = service.client.post("/submit", json={"image": "http://x.example/", "steps": 3})
    assert (answer.status_code, answer.json()["field"]) == (422, "steps")


def test_the_old_api_takes_json_only(service: Service) -> None:
    assert service.client.post("/submit", data={"image": "http://x.example/"}).status_code == 415


def test_job_page_and_status_say_the_same(service: Service) -> None:
    task_id = service.submit()
    assert service.get(f"/v1/jobs/{task_id}").json() == service.status(task_id)


def test_an_erased_job_leaves_no_file_and_no_prompt(service: Service) -> None:
    task_id = service.submit(prompt="A secret wish")
    service.complete(task_id)
    assert service.client.delete(f"/v1/jobs/{task_id}").status_code == 204
    assert service.get(f"/v1/jobs/{task_id}").json()["code"] == "result_expired"
    assert not list(service.host.blobs.ids())
    assert "secret wish" not in repr(service.host.store.get(task_id))


def test_erasing_a_running_job_takes_it_from_its_engine(service: Service) -> None:
    task_id = service.submit()
    job = service.start(task_id)
    assert service.client.delete(f"/v1/jobs/{task_id}").status_code == 204
    assert not service.host.store.is_current(job)


def test_erasing_twice_says_it_is_gone(service: Service) -> None:
    task_id = service.submit()
    service.client.delete(f"/v1/jobs/{task_id}")
    assert service.client.delete(f"/v1/jobs/{task_id}").status_code == 410


def test_the_queue_says_how_much_waits(service: Service) -> None:
    first = service.submit()
    service.submit()
    service.start(first)
    load = service.get("/v1/queue").json()
    assert (load["pending"], load["in_progress"], load["limit"]) == (1, 1, 1000)


def test_info_says_what_is_deployed(service: Service) -> None:
    info = service.get("/v1/info").json()
    assert info["version"] == __version__
    assert info["preset"]["name"] == "tiny"
    assert info["preset"]["resolutions"] == ["48p"]
    assert info["limits"]["max_audio_seconds"] == 3600
    assert info["engines"] == []


def test_events_tell_every_change_and_end_with_the_job(service: Service) -> None:
    task_id = service.submit()
    job = service.start(task_id)
    threading.Timer(0.3, service.host.store.replace, (job, cancel(job, job.created_at + 1))).start()
    with service.client.stream("GET", f"/v1/jobs/{task_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    said = [json.loads(line[6:])["status"] for line in lines if line.startswith("data: ")]
    assert lines[0] == "retry: 1000"
    assert (said[0], said[-1]) == ("in_progress", "canceled")


def test_events_of_an_unknown_job_are_refused(service: Service) -> None:
    assert service.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404


def _fetcher(address: str) -> Fetcher:
    return Fetcher(FetchPolicy(allowed_hosts=frozenset({address})))


@pytest.mark.parametrize("path", ["/v1/jobs/../../etc/passwd", "/v1/jobs/%2e%2e", "/v1/jobs/x'--"])
def test_an_id_is_a_name_and_never_a_path(service: Service, path: str) -> None:
    assert service.client.get(path).status_code == 404
