"""Segments are the frames of the fragments and the sound of the result, window for window."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from infinitetalk.media.segments import EncodedSound, frames_of, init_segment, media_segment
from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.writer import join, write_fragment, write_sound

LENGTHS = (33, 28, 1, 7)  # of windows, in frames
FORMATS = [(44100, 2), (16000, 1), (96000, 1)]


class Job:
    """Windows of a job, their sound and the video that they become."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(0)
        self.fragments, frames = [], sum(LENGTHS)
        for number, length in enumerate(LENGTHS):
            path = folder / f"{number:05d}.m4s"
            write_fragment(random.integers(0, 256, (length, 48, 64, 3), np.uint8), path)
            self.fragments.append(path)
        write_sound(Soundtrack(folder / "voice.wav"), folder / "sound.m4a", frames)
        self.video = folder / "result.mp4"
        join(self.fragments, folder / "sound.m4a", self.video, frames=frames, metadata={})
        self.sound = EncodedSound.of(folder / "sound.m4a")

    def segment(self, number: int) -> bytes:
        fragment = self.fragments[number].read_bytes()
        return media_segment(fragment, self.sound, number, sum(LENGTHS[:number]))

    def stream(self, numbers: Sequence[int]) -> bytes:
        """What a player has loaded."""
        init = init_segment(self.fragments[0].read_bytes(), self.sound)
        return b"".join([init, *map(self.segment, numbers)])


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path, make_voice: Callable[..., object]) -> MakeJob:
    def make(rate: int, channels: int) -> Job:
        make_voice(tmp_path / "voice.wav", rate, seconds=2.5, channels=channels)
        return Job(tmp_path)

    return make


def pictures(source: Path | bytes) -> list[tuple[float | None, str]]:
    """Time and content of every frame."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
        frames = file.decode(video=0)
        return [(f.time, hashlib.sha256(f.to_ndarray()).hexdigest()) for f in frames]


def packets(source: Path | bytes) -> tuple[list[float], list[int]]:
    """Time in seconds and size of the packets of sound that are heard."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
        stream = file.streams.audio[0]
        found = [packet for packet in file.demux(stream) if packet.size and packet.pts >= 0]
        times = [float(packet.pts * stream.time_base) for packet in found]
        return times, [packet.size for packet in found]


@pytest.mark.parametrize(("rate", "channels"), FORMATS)
def test_all_segments_together_are_the_video(make_job: MakeJob, rate: int, channels: int) -> None:
    job = make_job(rate, channels)
    stream = job.stream(range(len(LENGTHS)))
    assert pictures(stream) == pictures(job.video)
    (times, sizes), (wanted_times, wanted_sizes) = packets(stream), packets(job.video)
    assert times == pytest.approx(wanted_times, abs=1e-4)
    assert sizes == wanted_sizes


def test_every_segment_has_its_place_in_time(make_job: MakeJob) -> None:
    job = make_job(44100, 1)
    assert tuple(frames_of(path.read_bytes()) for path in job.fragments) == LENGTHS
    for number, frames in enumerate(LENGTHS):
        start = sum(LENGTHS[:number]) / 25
        times = [time for time, _ in pictures(job.stream([number]))]
        assert times == pytest.approx([start + frame / 25 for frame in range(frames)])
        heard, _ = packets(job.stream([number]))
        assert all(start <= time < start + frames / 25 for time in heard)


def test_the_sound_of_segments_is_that_of_the_video(make_job: MakeJob) -> None:
    job = make_job(44100, 1)
    with av.open(io.BytesIO(job.stream(range(len(LENGTHS))))) as file:
        watched = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)[0]
    with av.open(str(job.video)) as file:
        wanted = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)[0]
    middle = slice(1024, sum(LENGTHS) * 1764)  # the first packet has no run-up
    # Not equal: where AAC keeps the loudness of a noise only, the decoder makes another noise.
    assert np.corrcoef(watched[middle], wanted[middle])[0, 1] > 0.98


def test_another_file_is_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "text.m4a"
    path.write_bytes(b"\0\0\0\x0ctextmore")
    with pytest.raises(LookupError, match="moov"):
        EncodedSound.of(path)
