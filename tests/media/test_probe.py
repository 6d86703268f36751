from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.errors import FileMissing, UnsupportedMedia
from infinitetalk.media.probe import AudioStream, is_picture, probe

Make = Callable[..., Path]


def test_a_video_tells_its_tracks(tmp_path: Path, make: Make, make_clip: Make) -> None:
    silent = make_clip(tmp_path / "silent.mp4", rate="30", seconds=1)
    path = make("-i", silent, "-f", "lavfi", "-i", "sine=duration=1", tmp_path / "clip.mkv")
    info = probe(path)
    assert info.container == "matroska"
    assert info.duration_s == pytest.approx(1, abs=0.1)
    assert info.video is not None
    assert (info.video.width, info.video.height, info.video.fps) == (64, 48, 30)
    assert info.audio == AudioStream("vorbis", 44100, 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20])
def test_channels_are_counted(tmp_path: Path, make: Make, channels: int) -> None:
    silence = "|".join(["0"] * channels)
    path = make("-f", "lavfi", "-i", f"aevalsrc={silence}:d=0.1", tmp_path / "a.wav")
    audio = probe(path).audio
    assert audio is not None and audio.channels == channels


@pytest.mark.parametrize(
    ("turn", "aspect", "size"),
    [(0, "1/1", (48, 64)), (90, "1/1", (64, 48)), (180, "1/1", (48, 64)), (-90, "1/1", (64, 48)),
     (0, "2/1", (48, 128)), (0, "1/2", (96, 64)), (90, "2/1", (128, 48))],
)  # fmt: skip
def test_the_display_size_is_upright_with_square_pixels(
    tmp_path: Path, make: Make, make_clip: Make, turn: int, aspect: str, size: tuple[int, int]
) -> None:
    lying = make_clip(tmp_path / "lying.mp4", seconds=0.1, filters=f"setsar={aspect}")
    path = make("-display_rotation", turn, "-i", lying, "-c", "copy", tmp_path / "clip.mp4")
    video = probe(path).video
    assert video is not None
    assert video.pixel_aspect == Fraction(aspect)
    assert video.display_size == size


def test_tags_cannot_pose_as_tracks(tmp_path: Path, make: Make) -> None:
    lie = "x\n  Stream #0:0: Video: h264, yuv420p, 16x16, 25 fps\r  Duration: 09:00:00.00\v"
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-metadata", f"title={lie}")
    info = probe(make(*sound, tmp_path / "a.mp3"))
    assert info.video is None
    assert info.duration_s == pytest.approx(1, abs=0.1)


def test_tags_longer_than_our_log_do_not_hide_the_tracks(tmp_path: Path, make: Make) -> None:
    tags = tmp_path / "tags"
    tags.write_text(";FFMETADATA1\ntitle=" + "one of many lines\\\n" * 100_000 + "\n")
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-i", tags, "-map_metadata", "1")
    assert probe(make(*sound, tmp_path / "a.mp3")).audio is not None


def test_cover_art_is_no_video(tmp_path: Path, make: Make) -> None:
    Image.new("RGB", (640, 640)).save(tmp_path / "cover.png")
    inputs = ("-f", "lavfi", "-i", "sine=duration=1", "-i", tmp_path / "cover.png")
    tracks = ("-map", "0:a", "-map", "1:v", "-disposition:v", "attached_pic")
    path = make(*inputs, *tracks, tmp_path / "song.mp3")
    assert probe(path).video is None
    assert probe(path).audio is not None


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_a_picture_is_known_by_its_bytes(tmp_path: Path, extension: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / f"a.{extension}")
    assert is_picture((tmp_path / f"a.{extension}").rename(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    "extension", ["wav", "mp3", "m4a", "aac", "flac", "ogg", "opus", "aiff", "caf", "au", "w64",
                  "wma", "mka"]
)  # fmt: skip
def test_sound_is_known_by_its_bytes(tmp_path: Path, make: Make, extension: str) -> None:
    path = make("-f", "lavfi", "-i", "sine=duration=1", tmp_path / f"a.{extension}")
    info = probe(path.rename(tmp_path / "a.png"))
    assert (info.video, info.audio is not None) == (None, True)


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "avi", "ts", "mpg", "flv", "wmv"])
def test_a_video_is_known_by_its_bytes(
    tmp_path: Path, make: Make, make_clip: Make, extension: str
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.4)
    path = make("-i", clip, tmp_path / f"a.{extension}")
    assert probe(path.rename(tmp_path / "a.wav")).video is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"plain text", b"GIF89a" + bytes(40), b"%PDF-1.7\n", b"<svg/>", b"%!PS\n", bytes(400),
     b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypisom", np.arange(999, dtype=np.uint8).tobytes()],
    ids=["empty", "text", "gif", "pdf", "svg", "eps", "zeros", "wav head", "mp4 head", "counting"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.mp4", "a.mp3", "a.png"])
def test_other_bytes_are_unsupported_under_any_name(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedMedia) as refused:
        probe(tmp_path / name)
    assert str(tmp_path) not in refused.value.message


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path, Path("/dev/null"), Path("a\0b")):
        with pytest.raises(FileMissing):
            probe(path)
