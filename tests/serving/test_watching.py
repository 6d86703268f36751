"""Watching over HTTP: what is finished plays, and what is not finished says so."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from infinitetalk.errors import AudioInvalid
from infinitetalk.jobs.model import Problem, Video, cancel, complete, hand_back
from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.writer import write_fragment, write_sound
from tests.serving.playing import Running, Service

LENGTHS = (33, 28, 14)  # of a job's windows, in frames: three seconds


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Path:
    """A folder with what an engine makes of a job, window by window."""
    folder = tmp_path_factory.mktemp("rendered")
    random = np.random.default_rng(0)
    for number, length in enumerate(LENGTHS):
        frames = random.integers(0, 256, (length, 48, 48, 3), np.uint8)
        write_fragment(frames, folder / f"{number:05d}.m4s")
    write_sound(Soundtrack(speech), folder / "sound.m4a", sum(LENGTHS))
    return folder


@dataclass(frozen=True, slots=True)
class Watched:
    """A job that is rendered while it is watched."""

    service: Service
    rendered: Path
    id: str

    def finish(self, *names: str) -> None:
        """Play the engine: publish these files."""
        fragments = self.service.host.blobs.folder(self.id).root / "fragments"
        for name in names:
            (fragments / name).write_bytes((self.rendered / name).read_bytes())

    def finish_all(self) -> None:
        self.finish("sound.m4a", *(f"{number:05d}.m4s" for number in range(len(LENGTHS))))

    def end(self) -> None:
        """Play the engine: complete the job."""
        job = self.service.host.store.get(self.id)
        video = Video("0" * 64, 1000, sum(LENGTHS), len(LENGTHS))
        ended = complete(job, video, job.usage, now=job.created_at + 9)
        assert self.service.host.store.replace(job, ended)

    def get(self, name: str, **headers: str) -> Any:
        return self.service.client.get(f"/v1/jobs/{self.id}/{name}", headers=headers)


@pytest.fixture
def watched(service: Service, rendered: Path) -> Watched:
    """A running job of three seconds, no window of which is finished."""
    job_id = service.submit()
    job = service.start(job_id)
    assert service.host.store.replace(job, replace(job, seconds=sum(LENGTHS) / 25))
    return Watched(service, rendered, job_id)


def segments(playlist: str) -> list[str]:
    return [line for line in playlist.splitlines() if not line.startswith("#")]


def test_nothing_can_be_watched_before_the_first_window(watched: Watched) -> None:
    for names in ((), ("00000.m4s",)):  # pictures without their sound are none
        watched.finish(*names)
        for path in ("playlist.m3u8", "segments/init.mp4", "segments/00000.m4s"):
            answer = watched.get(path)
            assert (answer.status_code, answer.json()["code"]) == (400, "job_not_finished")
            assert answer.headers["retry-after"] == "2"


def test_finished_windows_are_listed_and_no_others(watched: Watched) -> None:
    watched.finish("sound.m4a", "00000.m4s", "00002.m4s")
    answer = watched.get("playlist.m3u8")
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert segments(answer.text) == ["segments/00000.m4s"]
    assert watched.get("segments/00001.m4s").status_code == 400
    watched.finish("00001.m4s")
    assert len(segments(watched.get("playlist.m3u8").text)) == 3


def test_a_player_shows_every_frame_of_a_finished_job(watched: Watched, tmp_path: Path) -> None:
    watched.finish_all()
    watched.end()
    (tmp_path / "segments").mkdir()
    playlist = watched.get("playlist.m3u8").text
    for name in ("segments/init.mp4", *segments(playlist)):
        (tmp_path / name).write_bytes(watched.get(name).content)
    (tmp_path / "playlist.m3u8").write_text(playlist)
    with av.open(str(tmp_path / "playlist.m3u8")) as file:
        times = [frame.time for frame in file.decode(video=0)]
    assert np.diff(times) == pytest.approx([1 / 25] * (sum(LENGTHS) - 1))
    with av.open(str(tmp_path / "playlist.m3u8")) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert samples == pytest.approx(sum(LENGTHS) / 25 * 16000, abs=1024)


def test_the_list_ends_with_the_job(watched: Watched) -> None:
    watched.finish_all()
    assert "ENDLIST" not in watched.get("playlist.m3u8").text
    watched.end()
    assert watched.get("playlist.m3u8").text.endswith("#EXT-X-ENDLIST\n")
    answer = watched.get("segments/00003.m4s")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_the_list_stays_open_until_the_last_window_is_there(watched: Watched) -> None:
    """As where files follow the word that the job is done."""
    watched.finish("sound.m4a", "00000.m4s", "00001.m4s")
    watched.end()
    assert "ENDLIST" not in watched.get("playlist.m3u8").text
    watched.finish("00002.m4s")
    assert watched.get("playlist.m3u8").text.endswith("#EXT-X-ENDLIST\n")


def test_a_job_of_an_earlier_version_has_its_video_only(watched: Watched) -> None:
    """It encoded its sound at the end, and kept none."""
    watched.finish("00000.m4s", "00001.m4s", "00002.m4s")
    watched.end()
    assert watched.get("playlist.m3u8").status_code == 410


def test_a_job_that_waits_again_can_be_watched_on(watched: Watched) -> None:
    watched.finish("sound.m4a", "00000.m4s")
    job = watched.service.host.store.get(watched.id)
    assert watched.service.host.store.replace(job, hand_back(job))
    assert watched.get("segments/00000.m4s").status_code == 200


@pytest.mark.parametrize("path", ["playlist.m3u8", "segments/init.mp4", "segments/00000.m4s"])
def test_what_was_loaded_is_only_asked_after(watched: Watched, path: str) -> None:
    watched.finish_all()
    answer = watched.get(path)
    assert answer.headers["cache-control"] == "private, no-cache"
    again = watched.get(path, **{"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_job_that_ended_badly_is_not_watched(watched: Watched) -> None:
    watched.finish_all()
    job = watched.service.host.store.get(watched.id)
    assert watched.service.host.store.replace(job, cancel(job, job.created_at + 1))
    assert watched.get("playlist.m3u8").status_code == 409
    failed = watched.service.submit()
    watched.service.fail(failed, Problem.of(AudioInvalid("The sound is damaged.")))
    answer = watched.service.get(f"/v1/jobs/{failed}/playlist.m3u8")
    assert (answer.status_code, answer.json()["code"]) == (422, "audio_invalid")


def test_an_erased_job_is_not_watched(watched: Watched) -> None:
    watched.finish_all()
    watched.end()
    watched.service.client.delete(f"/v1/jobs/{watched.id}")
    assert watched.get("playlist.m3u8").status_code == 410


@pytest.mark.parametrize(
    "name", ["x.m4s", "..%2fsound.m4a", "0.m4s", "9" * 5000 + ".m4s", "٠٠٠٠٠.m4s"]
)
def test_other_names_are_no_segments(watched: Watched, name: str) -> None:
    watched.finish_all()
    assert watched.get(f"segments/{name}").status_code == 404


@pytest.fixture
def guarded(run: Running) -> Iterator[Service]:
    with run(api_keys=("mine", "yours")) as service:
        yield service


@pytest.mark.parametrize("path", ["playlist.m3u8", "segments/init.mp4", "segments/00000.m4s"])
def test_only_the_owner_watches(guarded: Service, path: str) -> None:
    job_id = guarded.submit({"authorization": "Bearer mine"})
    statuses = [
        guarded.client.get(f"/v1/jobs/{job_id}/{path}", headers=headers).status_code
        for headers in ({}, {"authorization": "Bearer yours"}, {"authorization": "Bearer mine"})
    ]
    assert statuses == [401, 404, 400]


def test_a_stranger_is_told_nothing_of_names(guarded: Service) -> None:
    job_id = guarded.submit({"authorization": "Bearer mine"})
    assert guarded.get(f"/v1/jobs/{job_id}/segments/nonsense").status_code == 401
