"""Media that are checked on another machine: what arrives, and what is left however it ended.

The other machine is in this process; files go over a Volume, questions and answers as JSON.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import modal
import pytest

from infinitetalk import errors
from infinitetalk.errors import AudioTooShort, InfiniteTalkError, StoreBusy
from infinitetalk.jobfolder import JobFolder, read_job
from infinitetalk.jobs.modal_blobs import VolumeBlobStore
from infinitetalk.serving.check import Answer
from infinitetalk.serving.intake import Checker
from infinitetalk.serving.remote_intake import Ask, RemoteChecker, check_here
from infinitetalk.serving.sandbox import Sandbox
from infinitetalk.spec import GenerationSpec, specify
from tests.modal_control_plane.plane import ControlPlane

SPEC = specify("tiny", prompt="a secret wish", seed=7)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


class Fleet:
    """A front server and an intake with a disk each, and the Volume between them."""

    def __init__(self, volume: modal.Volume, remote: Path, disks: Path) -> None:
        self._remote = remote
        self.front = self._store(volume, disks / "front")
        self.intake = self._store(volume, disks / "intake")

    @staticmethod
    def _store(volume: modal.Volume, disk: Path) -> VolumeBlobStore:
        disk.mkdir()
        return VolumeBlobStore(volume, disk)

    def sent(self) -> list[str]:
        """What lies there for the intake."""
        return self._below("staging")

    def jobs(self) -> list[str]:
        return self._below("jobs")

    def asking(self, checker: Checker) -> Ask:
        """The intake, asked as over a wire."""

        def ask(job_id: str, spec: Mapping[str, Any]) -> Answer:
            told = json.loads(json.dumps(spec))
            with self.intake.staging() as folder:
                answer = asyncio.run(check_here(job_id, told, self.intake, checker, folder))
            reply: Answer = json.loads(json.dumps(answer))
            return reply

        return ask

    def submit(self, ask: Ask, scene: Path, *voices: Path) -> tuple[str, float]:
        """What the desk does with a request: the id of its job, and seconds."""
        with self.front.staging() as folder:
            staged = JobFolder(folder / "job")
            checker = RemoteChecker(self.front, ask)
            seconds = asyncio.run(checker.normalise(staged, SPEC, scene, voices))
            self.front.adopt(staged, folder.name)
        return folder.name, seconds

    def _below(self, folder: str) -> list[str]:
        files = (path for path in (self._remote / folder).rglob("*") if path.is_file())
        return sorted(path.relative_to(self._remote / folder).as_posix() for path in files)


@pytest.fixture
def fleet(plane: ControlPlane, tmp_path: Path) -> Fleet:
    name = tmp_path.name
    options = {"create_if_missing": True, "version": 2, "client": plane.client()}
    volume = modal.Volume.from_name(name, **options).hydrate()  # type: ignore[arg-type]
    return Fleet(volume, plane.volumes.folder(name), tmp_path)


class Refusing:
    """A checker that finds something wrong, whatever it is."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.given: list[str] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    async def normalise(
        self, folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path]
    ) -> float:
        self.given = [path.name for path in (scene, *voices)]
        raise self._error


def test_checked_media_are_the_jobs_and_what_was_sent_is_gone(
    fleet: Fleet, sandbox: Sandbox, portrait: Path, speech: Path
) -> None:
    job_id, seconds = fleet.submit(fleet.asking(sandbox), portrait, speech)
    assert seconds == pytest.approx(1.0, abs=0.1)
    folder = fleet.front.folder(job_id)
    assert read_job(folder) == SPEC
    assert folder.speakers == (1,)
    assert (fleet.sent(), {name.split("/")[0] for name in fleet.jobs()}) == ([], {job_id})


def test_refused_media_are_refused_here_as_they_were_there(
    fleet: Fleet, sandbox: Sandbox, portrait: Path
) -> None:
    with pytest.raises(errors.UnsupportedMedia) as refused:
        fleet.submit(fleet.asking(sandbox), portrait, portrait)
    assert refused.value.field == "audio"
    assert (fleet.sent(), fleet.jobs()) == ([], [])


@pytest.mark.parametrize(
    "error",
    [
        AudioTooShort("It is too short.", field="audio_2"),
        errors.MediaUnreadable("It took too long."),
        errors.StorageFull("The disk has no room."),
        errors.NotReady("Media cannot be checked at the moment."),
    ],
    ids=lambda error: error.code,
)
def test_every_error_arrives_with_its_kind_its_words_and_its_field(
    fleet: Fleet, portrait: Path, speech: Path, error: InfiniteTalkError
) -> None:
    refusing = Refusing(error)
    with pytest.raises(type(error)) as refused:
        fleet.submit(fleet.asking(refusing), portrait, speech, speech)
    assert (refused.value.message, refused.value.field) == (error.message, error.field)
    assert refusing.given == ["image", "audio", "audio_2"]
    assert (fleet.sent(), fleet.jobs()) == ([], [])


def unreachable(job_id: str, spec: Mapping[str, Any]) -> Answer:
    raise StoreBusy("The intake cannot be reached.")


def crash(job_id: str, spec: Mapping[str, Any]) -> Answer:
    raise ZeroDivisionError


@pytest.mark.parametrize(("ask", "error"), [(unreachable, StoreBusy), (crash, ZeroDivisionError)])
def test_an_intake_that_does_not_answer_leaves_nothing(
    fleet: Fleet, portrait: Path, speech: Path, ask: Ask, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fleet.submit(ask, portrait, speech)
    assert (fleet.sent(), fleet.jobs()) == ([], [])


def test_a_mistake_of_the_intake_is_no_answer(fleet: Fleet, portrait: Path, speech: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fleet.submit(fleet.asking(Refusing(ZeroDivisionError())), portrait, speech)
    assert fleet.sent() == []


def test_files_that_did_not_arrive_are_no_job(fleet: Fleet, sandbox: Sandbox) -> None:
    ask = fleet.asking(sandbox)
    assert ask("0" * 32, SPEC.to_json())["code"] == "result_expired"
    assert fleet.jobs() == []


def test_a_client_that_goes_away_leaves_nothing_of_what_it_sent(
    fleet: Fleet, portrait: Path, speech: Path
) -> None:
    asked, may_answer = Event(), Event()

    def ask(job_id: str, spec: Mapping[str, Any]) -> Answer:
        asked.set()
        assert fleet.sent() == [f"{job_id}/audio", f"{job_id}/image"]
        assert may_answer.wait(PATIENCE_S)
        return {"seconds": 1.0}

    async def go_away(folder: JobFolder) -> None:
        checker = RemoteChecker(fleet.front, ask)
        async with anyio.create_task_group() as request:  # every await in it is canceled
            request.start_soon(checker.normalise, folder, SPEC, portrait, [speech])
            assert await asyncio.to_thread(asked.wait, PATIENCE_S)
            request.cancel_scope.cancel()
            may_answer.set()

    with fleet.front.staging() as folder:
        asyncio.run(go_away(JobFolder(folder / "job")))
    assert fleet.sent() == []


class Forgetful:
    """Shared files of which nothing can be deleted at the moment."""

    def __init__(self, files: VolumeBlobStore) -> None:
        self._files = files
        self.send, self.fetch, self.adopt = files.send, files.fetch, files.adopt

    def drop(self, job_id: str) -> None:
        raise StoreBusy("The files of jobs cannot be reached at the moment, try again.")


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [({"seconds": 1.5}, 1.5), ({"code": "audio_too_short", "message": "No.", "field": None}, None)],
    ids=["taken", "refused"],
)
def test_leftovers_change_no_answer(
    fleet: Fleet, portrait: Path, speech: Path, answer: Answer, seconds: float | None
) -> None:
    checker = RemoteChecker(Forgetful(fleet.front), lambda job_id, spec: answer)

    def check() -> float:
        with fleet.front.staging() as folder:
            return asyncio.run(
                checker.normalise(JobFolder(folder / "job"), SPEC, portrait, [speech])
            )

    if seconds is None:
        with pytest.raises(AudioTooShort):
            check()
    else:
        assert check() == seconds
