"""The job layer of one host as a whole."""

from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.jobs.engines import Engine, EngineState
from infinitetalk.jobs.host import LocalHost, slot_lock, supervisor_lock
from infinitetalk.jobs.outbox import Kind, State
from tests.jobs.contract import staged
from tests.jobs.records import ENOUGH, NOW, FakeClock, a_job


def test_everything_of_a_host_is_in_its_folder_and_there_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    host = LocalHost.open(settings, FakeClock(NOW + 9))
    job = host.store.add(a_job(), limit=ENOUGH)
    with host.blobs.staging() as folder:
        host.blobs.adopt(staged(folder), job.id)
    host.outbox.promise(job.id, Kind.UPLOAD, "https://example.com")
    engine = Engine("0", EngineState.READY, 1, NOW, "tiny")
    host.engines.post(engine)
    host.close()

    again = LocalHost.open(settings, FakeClock(NOW + 9))
    assert again.store.find() == [job]
    assert (again.queue.position(job), again.queue.oldest_s()) == (0, 9.0)
    assert list(again.blobs.ids()) == [job.id]
    assert again.outbox.states(job.id) == {Kind.UPLOAD: State.WAITING}
    assert again.engines.all() == [engine]
    again.close()
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_locks_of_a_host_are_told_apart(tmp_path: Path) -> None:
    names = {slot_lock(tmp_path, "0"), slot_lock(tmp_path, "1"), supervisor_lock(tmp_path)}
    assert len(names) == 3
    assert {path.parent for path in names} == {tmp_path}
