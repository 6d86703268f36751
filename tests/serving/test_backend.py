"""Opening, readiness, draining, closing; several servers on one data folder."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.config import load_settings
from infinitetalk.errors import InvalidSetting, WeightsMissing
from infinitetalk.jobs.database import Database
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.sandbox import Sandbox
from tests.serving.playing import Running, Service


def test_a_fresh_service_is_ready(service: Service) -> None:
    assert service.backend.is_ready()


def test_without_room_it_is_not_ready_but_tells_what_it_has(run: Running) -> None:
    with run() as before:
        task_id = before.submit()
        before.complete(task_id)
    with run(min_free_gigabytes=1e9) as service:
        assert not service.backend.is_ready()
        assert service.get("/generate/get", task_id=task_id).status_code == 200


def test_a_draining_service_is_not_ready_and_takes_nothing(service: Service) -> None:
    task_id = service.submit()
    service.backend.drain()
    assert not service.backend.is_ready()
    answer = service.try_submit()
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    assert answer.headers["retry-after"]
    assert service.host.store.get(task_id).status == "pending"


def test_everything_is_there_again_after_a_restart(run: Running) -> None:
    with run() as service:
        done, waiting, later = (service.submit() for _ in range(3))
        service.complete(done)
    with run() as service:
        assert service.get("/generate/get", task_id=done).status_code == 200
        assert service.status(waiting)["queue_position"] == 1
        assert service.status(later)["queue_position"] == 2


def test_a_damaged_store_makes_it_unready_until_it_is_restored(
    run: Running, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with run() as service:
        task_id = service.submit()
        backup = Database(data / "jobs.db")
        backup.read("PRAGMA wal_checkpoint(TRUNCATE)")
        backup.close()
    good = (data / "jobs.db").read_bytes()
    (data / "jobs.db").write_bytes(b"this is no database" * 1000)
    backend = Backend(_settings(data))
    backend.open()
    try:
        assert not backend.is_ready()
        assert list(data.glob("jobs.db.damaged-*"))
        assert not backend.is_ready()
        assert not (data / "jobs.db").exists()  # never silently made anew
        (data / "jobs.db").write_bytes(good)
        assert backend.is_ready()
    finally:
        backend.close()
    with run() as service:
        assert service.status(task_id)["status"] == "pending"


def test_a_busy_store_at_the_start_is_opened_later(
    tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    backend = Backend(_settings(tmp_path), checker=sandbox)
    backend.open()
    try:
        assert "not ready: The job store is busy" in caplog.text
        other.execute("ROLLBACK")
        other.close()
        assert backend.is_ready()
    finally:
        backend.close()


def test_a_named_preset_without_weights_refuses_to_start(tmp_path: Path) -> None:
    settings = load_settings(
        {"INFINITETALK_PRESET": "best", "INFINITETALK_HOME": str(tmp_path), "PATH": ""}
    )
    with pytest.raises(WeightsMissing):
        Backend(settings).open()


def test_auto_is_the_demo_with_a_loud_reason(
    tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings({"INFINITETALK_ENGINES": "0", "INFINITETALK_HOME": str(tmp_path)})
    backend = Backend(settings, checker=sandbox)
    backend.open()
    try:
        info: dict[str, Any] = backend.info()
        assert info["preset"]["name"] == "demo"
        assert "no prepared weights" in info["preset"]["why"]
        assert "USING THE PRESET DEMO" in caplog.text
    finally:
        backend.close()


def test_two_servers_see_the_same_jobs(run: Running) -> None:
    with run() as one, run() as two:
        task_id = one.submit()
        assert two.status(task_id)["status"] == "pending"
        two.client.put("/generate/cancel", params={"task_id": task_id})
        assert one.status(task_id)["status"] == "canceled"


def _settings(data: Path) -> Any:
    return load_settings(
        {
            "INFINITETALK_PRESET": "tiny",
            "INFINITETALK_ENGINES": "0",
            "INFINITETALK_HOME": str(data),
            "INFINITETALK_DATA": str(data),
        }
    )


@pytest.mark.parametrize("wrong", [{"LABEL": "généré"}, {"C2PA_KEY": "/nowhere/key.pem"}])
def test_a_service_that_could_not_mark_its_videos_does_not_start(
    wrong: dict[str, str], tmp_path: Path
) -> None:
    own = {"PRESET": "tiny", "HOME": str(tmp_path), **wrong}
    settings = load_settings({f"INFINITETALK_{name}": value for name, value in own.items()})
    with pytest.raises(InvalidSetting):
        Backend(settings).open()
