"""Whatever media do to the process that opens them, the service lives and nothing is left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from infinitetalk import errors
from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError, MediaUnreadable, NotReady
from infinitetalk.jobfolder import JobFolder, read_job
from infinitetalk.serving.sandbox import Sandbox, SandboxLimits
from infinitetalk.spec import GenerationSpec, SpeakingOrder, specify

FAULTY = "tests.serving.faults:misbehave"
SETTINGS = Settings(
    max_audio_seconds=20, max_image_megapixels=1, max_file_megabytes=2, api_keys=("swordfish",)
)
CORES = os.cpu_count() or 1

SERVICE = """
import asyncio, sys
from pathlib import Path
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.serving.sandbox import Sandbox
from infinitetalk.spec import specify

place, work = Path(sys.argv[1]), sys.argv[2]
sandbox = Sandbox(Settings(), work=work)
spec = specify("tiny", prompt="hang")
asyncio.run(sandbox.normalise(JobFolder(place / "job"), spec, place / "image", []))
"""


@pytest.fixture(scope="module")
def faulty() -> Iterator[Sandbox]:
    limits = SandboxLimits(wall_s=20, cores=0.05, memory_bytes=2 << 30)
    sandbox = Sandbox(SETTINGS, limits, work=FAULTY)
    sandbox.start()
    yield sandbox
    sandbox.close()


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "job")


Check = Callable[..., float]
Begin = Callable[[Sandbox, str], Awaitable[tuple["asyncio.Task[float]", "Family"]]]


@pytest.fixture
def check(folder: JobFolder, portrait: Path, speech: Path, tmp_path: Path) -> Check:
    """Check the usual media in a sandbox."""
    scene = tmp_path / "image"
    scene.write_bytes(portrait.read_bytes())

    def run(sandbox: Sandbox, spec: GenerationSpec | str = "behave", voices: int = 1) -> float:
        chosen = specify("tiny", prompt=spec) if isinstance(spec, str) else spec
        return asyncio.run(sandbox.normalise(folder, chosen, scene, [speech] * voices))

    return run


class Family(NamedTuple):
    """The processes of one check, by their numbers."""

    worker: int
    keeper: int
    server: int
    child: int

    @classmethod
    def met_at(cls, place: Path) -> "Family":
        told = place / "family"
        wait_until(told.exists)
        family = cls(*json.loads(told.read_text()))
        told.unlink()
        return family


def has_ended(process: int) -> bool:
    return not psutil.pid_exists(process)


def wait_until(claim: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_good_media_become_a_job_folder(faulty: Sandbox, check: Check, folder: JobFolder) -> None:
    spec = specify("tiny", prompt="behave", seed=5)
    assert check(faulty, spec) == 1.0
    assert read_job(folder) == spec
    assert folder.picture.exists() and folder.speech(1).exists() and folder.sound(1).exists()


@pytest.mark.parametrize(
    ("voices", "order", "max_seconds", "seconds"),
    [
        (1, None, 0.5, 0.5),
        (1, None, 5.0, 1.0),
        (2, SpeakingOrder.TOGETHER, None, 1.0),
        (2, SpeakingOrder.ONE_AFTER_THE_OTHER, None, 2.0),
    ],
)
def test_the_seconds_are_those_that_the_video_will_show(
    voices: int,
    order: SpeakingOrder | None,
    max_seconds: float | None,
    seconds: float,
    faulty: Sandbox,
    check: Check,
) -> None:
    spec = specify("tiny", prompt="behave", order=order, max_seconds=max_seconds)
    assert check(faulty, spec, voices) == seconds


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("abort", "media_unreadable", "crashed"),
        ("exit", "media_unreadable", "crashed"),
        ("stumble", "media_unreadable", "crashed"),
        ("allocate", "media_unreadable", "too much memory"),
        ("write", "media_unreadable", "crashed"),
        ("compute", "media_unreadable", "crashed"),
        ("fill", "storage_full", "disk"),
        ("quota", "storage_full", "disk"),
        ("chatter {}", "media_unreadable", ""),
        ("chatter []", "media_unreadable", ""),
        ("chatter nonsense", "media_unreadable", ""),
        ('chatter {"seconds": "1"}', "media_unreadable", ""),
        ('chatter {"seconds": NaN}', "media_unreadable", ""),
        ('chatter {"code": "no_such", "message": "x", "field": null}', "media_unreadable", ""),
        ('chatter {"code": "internal", "message": 1, "field": null}', "media_unreadable", ""),
    ],
)
def test_a_worker_that_fails_costs_its_own_request_only(
    fault: str, code: str, words: str, faulty: Sandbox, check: Check, folder: JobFolder
) -> None:
    with pytest.raises(InfiniteTalkError) as refused:
        check(faulty, fault)
    assert (refused.value.code, words in refused.value.message) == (code, True)
    assert not folder.root.exists()
    assert check(faulty) == 1.0


def test_a_worker_that_hangs_is_ended_with_its_children(
    check: Check, folder: JobFolder, tmp_path: Path
) -> None:
    impatient = Sandbox(SETTINGS, SandboxLimits(wall_s=2), work=FAULTY)
    with closing(impatient), pytest.raises(MediaUnreadable, match="took longer than 2 s"):
        check(impatient, "hang")
    family = Family.met_at(tmp_path)
    assert has_ended(family.worker) and not folder.root.exists()
    wait_until(lambda: has_ended(family.child) and has_ended(family.keeper))


@pytest.fixture
def begin(folder: JobFolder, portrait: Path, speech: Path, tmp_path: Path) -> Begin:
    """Begin a check; it is under way when this returns."""
    scene = tmp_path / "image"
    scene.write_bytes(portrait.read_bytes())

    async def run(sandbox: Sandbox, fault: str) -> tuple[asyncio.Task[float], Family]:
        spec = specify("tiny", prompt=fault)
        task = asyncio.create_task(sandbox.normalise(folder, spec, scene, [speech]))
        return task, await asyncio.to_thread(Family.met_at, tmp_path)

    return run


def test_nobody_waiting_ends_the_worker_and_empties_the_folder(
    faulty: Sandbox, folder: JobFolder, begin: Begin
) -> None:
    async def cancel() -> Family:
        task, family = await begin(faulty, "hang")
        assert folder.root.exists()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return family

    family = asyncio.run(cancel())
    assert has_ended(family.worker) and not folder.root.exists()
    wait_until(lambda: has_ended(family.child) and has_ended(family.keeper))


def test_every_error_crosses_the_border_as_it_is(faulty: Sandbox, check: Check) -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    refusals = [kind for kind in kinds if issubclass(kind, errors.InvalidInput)]
    assert len(refusals) > 10
    for kind in refusals:
        with pytest.raises(InfiniteTalkError) as refused:
            check(faulty, f"refuse {kind.__name__}")
        error = refused.value
        assert (type(error), error.message, error.field) == (kind, "It is not good.", "audio_2")


def test_a_worker_knows_nothing_of_the_service(
    faulty: Sandbox, check: Check, tmp_path: Path
) -> None:
    check(faulty, "report")
    report = json.loads((tmp_path / "report").read_text())
    assert "swordfish" not in json.dumps(report)
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert "PYTEST_CURRENT_TEST" not in report["environment"]
    assert report["descriptors"] == ["nothing", "nothing", "nothing", "pipe"]


def test_a_worker_is_limited(faulty: Sandbox, check: Check, tmp_path: Path) -> None:
    check(faulty, "report")
    limits = json.loads((tmp_path / "report").read_text())["limits"]
    assert {name: hard for name, (soft, hard) in limits.items() if soft == hard} == {
        "core": 0,
        "cpu": 2,  # 0.05 of 20 s, and of the second that a megabyte of media gets; rounded up
        "file": 5_000_000,  # a picture of 1 megapixel
        "files": 256,
        "memory": 2 << 30,
    }


def test_what_is_forked_has_one_thread(faulty: Sandbox, check: Check, tmp_path: Path) -> None:
    check(faulty, "family")
    assert psutil.Process(Family.met_at(tmp_path).server).num_threads() == 1


def test_larger_media_may_take_longer(faulty: Sandbox, check: Check, tmp_path: Path) -> None:
    with (tmp_path / "image").open("ab") as scene:
        scene.write(b"x" * 40_000_000)  # after the end of the picture
    check(faulty, "report")
    soft, _ = json.loads((tmp_path / "report").read_text())["limits"]["cpu"]
    assert soft == 4  # 0.05 of 20 s and of 40 s


def test_no_more_than_the_cores_work_at_once(
    faulty: Sandbox, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "image"
    scene.write_bytes(portrait.read_bytes())
    spec = specify("tiny", prompt="count")

    async def all_at_once() -> None:
        folders = [JobFolder(tmp_path / f"job{number}") for number in range(2 * CORES + 1)]
        await asyncio.gather(*(faulty.normalise(f, spec, scene, [speech]) for f in folders))

    asyncio.run(all_at_once())
    seen = [int(path.read_text()) for path in tmp_path.glob("seen_*")]
    assert len(seen) == 2 * CORES + 1
    assert max(seen) == CORES


def test_a_check_goes_on_when_the_fork_server_is_killed_and_the_next_has_another(
    faulty: Sandbox, begin: Begin, folder: JobFolder, tmp_path: Path
) -> None:
    async def kill() -> tuple[float, float]:
        task, first = await begin(faulty, "wait")
        os.kill(first.server, signal.SIGKILL)
        (tmp_path / "go").touch()
        seconds = await task
        folder.remove()
        task, second = await begin(faulty, "wait")
        assert second.server != first.server
        return seconds, await task

    assert asyncio.run(kill()) == (1.0, 1.0)


def test_a_check_whose_keeper_is_killed_is_done_again(
    faulty: Sandbox, begin: Begin, tmp_path: Path
) -> None:
    async def kill() -> tuple[Family, float]:
        task, first = await begin(faulty, "wait")
        os.kill(first.keeper, signal.SIGKILL)
        await asyncio.to_thread(Family.met_at, tmp_path)
        (tmp_path / "go").touch()
        return first, await task

    first, seconds = asyncio.run(kill())
    assert seconds == 1.0
    wait_until(lambda: has_ended(first.worker))


def test_a_sandbox_that_cannot_start_is_not_ready(check: Check) -> None:
    broken = Sandbox(SETTINGS, work="tests.serving.faults:no_such_function")
    with pytest.raises(NotReady) as refused:
        check(broken)
    assert refused.value.retryable


def test_all_processes_end_with_the_service_that_was_killed(portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(portrait.read_bytes())
    search = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", SERVICE, str(tmp_path), FAULTY]
    with subprocess.Popen(command, env={**os.environ, **search}) as service:
        family = Family.met_at(tmp_path)
        service.kill()
    wait_until(lambda: all(has_ended(process) for process in family))
    assert not (tmp_path / "job").exists()


def test_a_closed_sandbox_leaves_no_process() -> None:
    before = set(psutil.Process().children())
    sandbox = Sandbox(SETTINGS)
    sandbox.start()
    (server,) = set(psutil.Process().children()) - before
    sandbox.close()
    sandbox.close()
    assert has_ended(server.pid)
