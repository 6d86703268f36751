"""What is measured of a video whose voice, mouth and colours are known."""

from pathlib import Path

import numpy as np
import pytest

from infinitetalk.errors import UnsupportedMedia, VideoInvalid
from infinitetalk.media import ffmpeg
from infinitetalk.report.measure import SILENCE_DB, Measurements, measure
from infinitetalk.spec import Box
from tests.report.conftest import DRIFT, FRAMES, LATE, SIZE, is_speaking


def test_there_is_one_value_a_frame(measured: Measurements) -> None:
    assert measured.loudness is not None
    assert len(measured.loudness) == len(measured.colour) == len(measured.motion[0]) == FRAMES
    assert (measured.height, measured.width, measured.codec) == (SIZE, SIZE, "h264")


def test_words_are_loud_and_pauses_silent(measured: Measurements) -> None:
    assert measured.loudness is not None
    inside = is_speaking() & np.roll(is_speaking(), 1) & np.roll(is_speaking(), -1)
    assert measured.loudness[inside] == pytest.approx(-20, abs=1.5)  # noise of 0.1
    assert measured.loudness[:8].max() < -50 and measured.loudness.min() >= SILENCE_DB


def test_the_mouth_moves_when_it_opens(measured: Measurements) -> None:
    motion, moves = measured.motion[0], np.roll(is_speaking(), LATE + 1)
    assert motion[moves & np.roll(is_speaking(), LATE)].min() > 5
    assert motion[1:9].max() < 1


def test_a_mouth_elsewhere_is_looked_for_in_its_box(talking: Path) -> None:
    still, moving = Box(0, 0, 40, 40), Box(48, 30, 80, 66)
    quiet, busy = measure(talking, "two", [still, moving]).motion
    assert quiet.max() < 3 and busy.max() > 20


def test_colours_are_levels_of_the_whole_picture(measured: Measurements) -> None:
    first, last = measured.colour[0], measured.colour[-1]
    assert first == pytest.approx([90, 90, 90], abs=4)
    assert last - first == pytest.approx([DRIFT, 0, 0], abs=4)


def test_the_strip_shows_pictures_from_all_over(measured: Measurements) -> None:
    reds = [np.asarray(picture)[..., 0].mean() for picture in measured.strip]
    assert len(reds) == 12
    assert reds[-1] - reds[0] > 0.75 * DRIFT


def test_a_video_without_sound_is_measured_all_the_same(talking: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    ffmpeg.run([*ffmpeg.opening(talking), "-an", "-c", "copy", str(silent)])
    found = measure(silent, "silent")
    assert found.loudness is None and found.wave is None and len(found.colour) == FRAMES


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"no video", UnsupportedMedia), (b"RIFF0000WAVEfmt ", UnsupportedMedia)],
)
def test_what_is_no_video_is_refused(content: bytes, error: type, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(error):
        measure(path, "x")


def test_a_sound_file_has_no_frames(talking: Path) -> None:
    with pytest.raises(VideoInvalid):
        measure(talking.with_name("voice.wav"), "voice")
