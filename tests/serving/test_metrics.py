"""Metrics: what Prometheus reads, from the store alone."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infinitetalk.errors import AudioTooShort
from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.model import Problem, Usage
from infinitetalk.progress import Stage
from tests.serving.playing import Running, Service

USAGE = Usage(gpu_seconds=2.5, cost_usd=0.5, stages={Stage.DENOISING: 2.0})


def samples(service: Service) -> dict[tuple[str, ...], float]:
    """(name, values of its labels in the order of their names) -> value."""
    text = service.get("/v1/metrics").text
    return {
        (
            sample.name.removeprefix("infinitetalk_"),
            *(sample.labels[name] for name in sorted(sample.labels)),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_jobs_are_counted_by_outcome_and_code(service: Service) -> None:
    for _ in range(2):
        service.complete(service.submit(), USAGE)
    service.fail(service.submit(), Problem.of(AudioTooShort("Too short.")))
    service.client.put("/generate/cancel", params={"task_id": service.submit()})
    found = samples(service)
    assert found["jobs_total", "", "completed"] == 2
    assert found["jobs_total", "audio_too_short", "failed"] == 1
    assert found["jobs_total", "", "canceled"] == 1


def test_seconds_dollars_and_windows_add_up(service: Service) -> None:
    for _ in range(2):
        service.complete(service.submit(), USAGE)
    found = samples(service)
    assert found["gpu_seconds_total",] == 5.0
    assert found["cost_usd_total",] == 1.0
    assert found["windows_total",] == 4
    assert found["video_seconds_total",] == 2.0
    assert found["stage_seconds_total", "denoising"] == 4.0


def test_windows_per_minute_are_those_of_the_last_ten_minutes(run: Running) -> None:
    now = 1e9
    with run(clock=lambda: now) as service:
        for _ in range(5):
            service.complete(service.submit(), USAGE)  # two windows, nine seconds later
        assert samples(service)["windows_per_minute",] == 1.0
        now += 700
        assert samples(service)["windows_per_minute",] == 0.0


def test_totals_survive_the_jobs_they_count(service: Service) -> None:
    task_id = service.submit()
    service.complete(task_id, USAGE)
    service.client.delete(f"/v1/jobs/{task_id}")
    service.host.store.forget(before=1e12)
    assert samples(service)["jobs_total", "", "completed"] == 1


def test_the_queue_is_measured(service: Service) -> None:
    first = service.submit()
    service.submit()
    service.start(first)
    found = samples(service)
    assert (found["queue_depth",], found["jobs_running",]) == (1, 1)
    assert found["queue_age_seconds",] >= 0
    assert found["free_disk_bytes",] > 0


@pytest.mark.parametrize(("state", "value"), [("ready", 1), ("loading", 0), ("failed", 0)])
def test_engines_are_ready_or_not(service: Service, state: str, value: int) -> None:
    service.host.engines.post(Engine("0", EngineState(state), 1, 0.0, "tiny"))
    assert samples(service)["engine_ready", "0"] == value


def test_labels_hold_no_words_of_callers(run: Running) -> None:
    with run(api_keys=("key-of-ann",)) as service:
        ann = {"authorization": "Bearer key-of-ann"}
        task_id = service.submit(ann, prompt="words of Ann")
        service.complete(task_id, USAGE)
        text = service.get("/v1/metrics").text
        assert "Ann" not in text
        assert task_id not in text
        assert "infinitetalk_jobs_total" in text
