"""The checks of a finished video: a good one passes, and each kind of fault is found."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from infinitetalk.acceptance.video_checks import (
    MAX_STILL_FRAMES,
    check_format,
    check_length,
    check_picture,
    check_sync,
)
from infinitetalk.errors import VideoInvalid
from tests.acceptance.subjects import FRAMES, MakeVideo

Track = Callable[..., Path]


def change(video: Path, *arguments: str) -> Path:
    """The video after ffmpeg; `IN` stands for it."""
    target = video.with_name("changed.mp4")
    named = [str(video) if word == "IN" else word for word in arguments]
    quiet = ["-nostdin", "-loglevel", "error", "-y"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *quiet, *named, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def test_what_our_writer_makes_passes_every_check(make_video: MakeVideo, make_track: Track) -> None:
    video = make_video()
    verdicts = (
        check_format(video),
        check_length(video, FRAMES),
        check_sync(video, make_track(FRAMES / 25)),
        check_picture(video, FRAMES),
    )
    assert all(verdict.passed for verdict in verdicts)
    assert "+0.0 ms" in verdicts[2].detail


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-i", "IN", "-an", "-c", "copy"], "no sound"),
        (["-i", "IN", "-c:v", "mpeg4"], "mpeg4"),
        (["-i", "IN", "-r", "30"], "30 frames"),
        (["-i", "IN", "-vn", "-c", "copy"], "no video"),
    ],
    ids=["silent", "codec", "rate", "sound alone"],
)
def test_another_format_is_found(make_video: MakeVideo, arguments: list[str], said: str) -> None:
    verdict = check_format(change(make_video(), *arguments))
    assert not verdict.passed
    assert said in verdict.detail


def test_a_missing_frame_is_found(make_video: MakeVideo) -> None:
    verdict = check_length(make_video(), FRAMES + 1)
    assert not verdict.passed
    assert verdict.detail == f"{FRAMES} frames, {FRAMES + 1} asked for"


def test_a_picture_that_starts_late_counts_as_too_long(make_video: MakeVideo) -> None:
    late = ["-itsoffset", "0.2", "-i", "IN", "-i", "IN", "-map", "0:v", "-map", "1:a", "-c", "copy"]
    assert not check_length(change(make_video(), *late), FRAMES).passed


def test_a_file_that_is_cut_off_is_no_video(make_video: MakeVideo) -> None:
    video = make_video()
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(VideoInvalid):
        check_length(video, FRAMES)


LATE_SAMPLES = ["-i", "IN", "-c:v", "copy", "-af", "adelay=40:all=1"]
LATE_STAMPS = ["-i", "IN", "-itsoffset", "0.2", "-i", "IN", "-map", "0:v", "-map", "1:a"]
LATE_PICTURE = ["-itsoffset", "0.02", "-i", "IN", "-i", "IN", "-map", "0:v", "-map", "1:a"]
EARLY = ["-i", "IN", "-c:v", "copy", "-af", "atrim=start=0.04,asetpts=PTS-STARTPTS"]


@pytest.mark.parametrize(
    ("arguments", "lag"),
    [
        (LATE_SAMPLES, "+40.0 ms"),
        ([*LATE_STAMPS, "-c", "copy"], "+200.0 ms"),
        ([*LATE_PICTURE, "-c", "copy"], "-20.0 ms"),
        (EARLY, "-40.0 ms"),
    ],
    ids=["silence before it", "its time stamps", "those of the picture", "cut at the start"],
)
def test_a_shifted_sound_is_found(
    make_video: MakeVideo, make_track: Track, arguments: list[str], lag: str
) -> None:
    verdict = check_sync(change(make_video(), *arguments), make_track(FRAMES / 25))
    assert not verdict.passed
    assert verdict.detail.startswith(lag)


def test_a_sound_shifted_by_less_than_anyone_hears_passes(
    make_video: MakeVideo, make_track: Track
) -> None:
    video = change(make_video(), "-i", "IN", "-c:v", "copy", "-af", "adelay=6:all=1")
    verdict = check_sync(video, make_track(FRAMES / 25))
    assert verdict.passed
    assert verdict.detail.startswith("+6.0 ms")


@pytest.mark.parametrize("filters", ["volume=0", "atrim=end=0.8"], ids=["silence", "half of it"])
def test_a_sound_that_is_not_there_is_found(
    make_video: MakeVideo, make_track: Track, filters: str
) -> None:
    video = change(make_video(), "-i", "IN", "-c:v", "copy", "-af", filters)
    assert not check_sync(video, make_track(FRAMES / 25)).passed


def test_the_sound_of_somebody_else_is_found(make_video: MakeVideo, make_track: Track) -> None:
    video = make_video(sound=make_track(FRAMES / 25, 1))
    assert not check_sync(video, make_track(FRAMES / 25)).passed


def _constant(noise: np.ndarray) -> np.ndarray:
    return np.repeat(noise[:1], FRAMES, axis=0)


def _still_at_the_end(noise: np.ndarray) -> np.ndarray:
    moving = FRAMES - MAX_STILL_FRAMES - 2
    return np.concatenate([noise[:moving], _constant(noise)[moving:]])


def _black_once(noise: np.ndarray) -> np.ndarray:
    frames = noise.copy()
    frames[FRAMES // 2] = 0
    return frames


def _flicker(noise: np.ndarray) -> np.ndarray:
    """One colour in every frame, another in the next."""
    levels = np.where(np.arange(FRAMES) % 2, 60, 180).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], noise.shape).copy()


@pytest.mark.parametrize("fault", [_constant, _still_at_the_end, _black_once, _flicker])
def test_a_broken_picture_is_found(
    make_video: MakeVideo, noise: np.ndarray, fault: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert not check_picture(make_video(fault(noise)), FRAMES).passed


def test_a_face_may_rest_for_less_than_a_second_at_once(
    make_video: MakeVideo, noise: np.ndarray
) -> None:
    frames = noise.copy()
    frames[1:21], frames[25:45] = frames[1], frames[25]
    assert check_picture(make_video(frames), FRAMES).passed
