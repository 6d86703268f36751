from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from PIL import Image

from infinitetalk.errors import FileMissing, UnsupportedMedia, VideoInvalid, VideoTooLarge
from infinitetalk.media.audio import decode_speech
from infinitetalk.media.probe import probe
from infinitetalk.media.video import VideoFrames, VideoInfo, check_video

Make = Callable[..., Path]
LIMIT = 9.0


def open_frames(path: Path) -> VideoFrames:
    return VideoFrames(path, max_megapixels=LIMIT)


def shown_at(path: Path, count: int) -> np.ndarray:
    """The time at which each of the first frames was filmed, told by its brightness."""
    with open_frames(path) as frames:
        return np.array([frames.frame(index).mean() * 219 / 255 / 80 for index in range(count)])


def corner_colours(frame: np.ndarray) -> str:
    """The four quarters in reading order, by their strongest channel."""
    height, width, _ = frame.shape
    places = [(height // 4, width // 4), (height // 4, -width // 4),
              (-height // 4, width // 4), (-height // 4, -width // 4)]  # fmt: skip
    return "".join(
        "RGBW"[int(frame[y, x].argmax()) if frame[y, x].min() < 99 else 3] for y, x in places
    )


H264 = ("-c:v", "libx264", "-qp", "1", "-preset", "ultrafast")
LARGE = "scale=1920:1080"
UNEVEN = r"select='not(eq(mod(n\,7)\,3)+eq(mod(n\,5)\,1)+between(n\,20\,28))'"


@pytest.mark.parametrize(
    ("rate", "filters", "longest_gap"),
    [("25", "null", 1 / 25), ("30", "null", 1 / 30), ("24000/1001", "null", 1001 / 24000),
     ("60", "null", 1 / 60), ("15", "null", 1 / 15), ("30", UNEVEN, 11 / 30)],
    ids=["25", "30", "23.976", "60", "15", "variable"],
)  # fmt: skip
@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_frames_are_mapped_by_time(
    tmp_path: Path, make_clip: Make, rate: str, filters: str, longest_gap: float, extension: str
) -> None:
    path = make_clip(tmp_path / f"a.{extension}", rate=rate, filters=filters)
    assert abs(check_video(path, LIMIT).frames - 50) <= 1
    late = np.arange(49) / 25 - shown_at(path, 49)
    rounding = 2 / 80 + 0.001  # of luma, of the grey level and of the time stamp
    assert late.min() > -0.02 - rounding  # never more than half a frame too early
    assert late.max() < longest_gap - 0.02 + rounding


EARLY = ("-avoid_negative_ts", "disabled", "-bsf:v", "setts=pts=PTS-0.52/TB:dts=DTS-0.52/TB")


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("before", "after"), [((), EARLY), (("-ss", 0.52), ())], ids=["negative", "edit list"]
)
def test_what_lies_before_time_zero_is_not_shown(
    tmp_path: Path,
    make: Make,
    make_clip: Make,
    extension: str,
    before: tuple[object, ...],
    after: tuple[object, ...],
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", "-c:v", "libx264", "-qp", 1, "-g", 100, "-bf", 2)
    path = make(*before, "-i", clip, "-c", "copy", *after, tmp_path / f"a.{extension}")
    assert check_video(path, LIMIT).frames == 37
    assert np.abs(shown_at(path, 35) - 0.52 - np.arange(35) / 25).max() < 0.06


def test_a_frame_rate_that_the_header_makes_up_is_not_believed(
    tmp_path: Path, make: Make, make_clip: Make
) -> None:
    clip = make_clip(tmp_path / "clip.mkv")
    squares = "setts=ts=N*N*2"  # frame n is shown at 2 n * n ms
    path = make("-i", clip, "-c", "copy", "-bsf:v", squares, tmp_path / "a.mkv")
    assert abs(check_video(path, LIMIT).frames - 49 * 49 * 2e-3 * 25) <= 2
    places = np.round(np.arange(50) ** 2 * 2 / 40)  # of each frame, at 25 a second
    wanted = [np.flatnonzero(places <= index).max() / 25 for index in range(115)]
    assert np.abs(shown_at(path, 115) - wanted).max() < 0.06


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("rate", "filters"), [("25", "null"), ("30", UNEVEN), ("24000/1001", "null")]
)
def test_a_flash_and_its_beep_stay_together(
    tmp_path: Path, make: Make, make_clip: Make, extension: str, rate: str, filters: str
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", rate=rate, filters=filters)
    beep = ("-f", "lavfi", "-i", "aevalsrc=sin(3000*t)*gte(t\\,1.6):d=2:s=48000")
    path = make("-i", clip, *beep, "-c:v", "copy", tmp_path / f"a.{extension}")
    flash_s = int(np.argmax(shown_at(path, 50) > 1.6 - 0.01)) / 25
    decode_speech(path, tmp_path / "a.wav", max_seconds=9)
    wave, _ = soundfile.read(tmp_path / "a.wav")
    beep_s = int(np.argmax(np.abs(wave) > 0.3)) / 16000
    assert abs(flash_s - beep_s) < 1 / 25


def test_a_video_of_25_fps_keeps_its_frames(tmp_path: Path, make_clip: Make) -> None:
    times = shown_at(make_clip(tmp_path / "a.mp4"), 50)
    assert np.abs(times - np.arange(50) / 25).max() < 0.02
    assert (np.diff(times) > 0).all()


def test_colours_are_those_of_the_standard(tmp_path: Path, make: Make) -> None:
    luma = np.arange(16, 236, 4, dtype=np.uint8)
    planes = [bytes([level]) * (64 * 48) + bytes([128]) * (64 * 24) for level in luma]
    (tmp_path / "raw").write_bytes(b"".join(planes))
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", "64x48", "-framerate", 25)
    path = make(*raw, "-i", tmp_path / "raw", "-c:v", "libx264", "-qp", 0, tmp_path / "a.mp4")
    with open_frames(path) as frames:
        shown = np.array([frames.frame(index).mean() for index in range(len(luma))])
    assert np.abs(shown - (luma - 16.0) * 255 / 219).max() <= 0.5


def test_after_the_end_the_last_frame_stays(tmp_path: Path, make_clip: Make) -> None:
    with open_frames(make_clip(tmp_path / "a.mp4", seconds=1)) as frames:
        last = frames.frame(24)
        assert np.array_equal(frames.frame(25), last)
        assert np.array_equal(frames.frame(10_000), last)


def test_going_back_starts_again(tmp_path: Path, make_clip: Make) -> None:
    with open_frames(make_clip(tmp_path / "a.mp4", seconds=1)) as frames:
        early = frames.frame(3)
        late = frames.frame(20)
        assert np.array_equal(frames.frame(20), late)
        assert np.array_equal(frames.frame(3), early)
        early[:] = 0  # a frame belongs to the caller
        assert frames.frame(3).any()


def test_a_picture_that_starts_late_is_shown_from_the_beginning(
    tmp_path: Path, make: Make, make_clip: Make
) -> None:
    clip = make_clip(tmp_path / "a.mp4", seconds=1)
    sound = ("-f", "lavfi", "-i", "sine=duration=1.4")
    late = make(*sound, "-itsoffset", 0.4, "-i", clip, "-c:v", "copy", tmp_path / "late.mkv")
    assert shown_at(late, 35)[[0, 9, 20, 34]] == pytest.approx([0, 0, 0.4, 0.96], abs=0.03)


@pytest.mark.parametrize(
    ("turn", "wanted"), [(0, "RGBW"), (90, "GWRB"), (180, "WBGR"), (-90, "BRWG")]
)
def test_the_rotation_flag_is_applied(tmp_path: Path, make: Make, turn: int, wanted: str) -> None:
    quarters = np.zeros((48, 64, 3), np.uint8)
    quarters[:24, :32], quarters[:24, 32:] = (255, 0, 0), (0, 255, 0)
    quarters[24:, :32], quarters[24:, 32:] = (0, 0, 255), (255, 255, 255)
    Image.fromarray(quarters).save(tmp_path / "quarters.png")
    lying = make("-i", tmp_path / "quarters.png", "-pix_fmt", "yuv420p", tmp_path / "lying.mp4")
    path = make("-display_rotation", turn, "-i", lying, "-c", "copy", tmp_path / "a.mp4")
    with open_frames(path) as frames:
        assert (frames.height, frames.width) == ((48, 64) if turn % 180 == 0 else (64, 48))
        assert corner_colours(frames.frame(0)) == wanted


@pytest.mark.parametrize(
    ("aspect", "size"), [("2/1", (48, 128)), ("1/2", (96, 64)), ("64/45", (48, 91))]
)
def test_pixels_become_square(
    tmp_path: Path, make_clip: Make, aspect: str, size: tuple[int, int]
) -> None:
    path = make_clip(tmp_path / "a.mp4", seconds=0.2, filters=f"setsar={aspect}")
    with open_frames(path) as frames:
        assert frames.frame(0).shape == (*size, 3)


@pytest.mark.parametrize(
    "encode",
    [("-c:v", "libsvtav1", "-preset", 12, "-crf", 10, "-svtav1-params", "lp=1"),
     ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", 4, "-x265-params", "log-level=none"),
     ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv444p", "-crf", 4, "-cpu-used", 8),
     ("-c:v", "prores"), ("-c:v", "mjpeg", "-q:v", 1, "-pix_fmt", "yuvj420p"),
     ("-c:v", "libx264", "-qp", 0, "-pix_fmt", "yuv422p10le"),
     ("-c:v", "libx264", "-qp", 1, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
     ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", 4, "-color_primaries", "bt2020",
      "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-x265-params", "log-level=none")],
    ids=["av1", "hevc 10 bit", "vp9 4:4:4", "prores", "mjpeg", "h264 4:2:2 10 bit", "interlaced",
         "hdr"],
)  # fmt: skip
def test_codecs_and_pixel_formats_are_decoded(
    tmp_path: Path, make_clip: Make, encode: tuple[object, ...]
) -> None:
    path = make_clip(tmp_path / "a.mkv", *encode, seconds=0.4)
    assert check_video(path, LIMIT) == VideoInfo(10, 48, 64)
    assert np.abs(shown_at(path, 10) - np.arange(10) / 25).max() < 0.04


def test_a_track_that_changes_its_size_has_one_size(
    tmp_path: Path, make: Make, make_clip: Make
) -> None:
    small = make_clip(tmp_path / "small.ts", seconds=0.4)
    large = make("-i", small, "-vf", "scale=128:96", "-c:v", "libx264", tmp_path / "large.ts")
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with open_frames(path) as frames:
        shapes = {frames.frame(index).shape for index in range(20)}
        assert shapes == {(frames.height, frames.width, 3)}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("flags", ["+faststart", "+faststart -an", "0"])
def test_a_truncated_mp4_is_refused(tmp_path: Path, make: Make, share: float, flags: str) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=4")
    sound = ("-f", "lavfi", "-i", "sine=duration=4")
    movflags, *more = flags.split()
    path = make(
        *source, *sound, "-movflags", movflags, *more, "-preset", "ultrafast", tmp_path / "a.mp4"
    )
    assert check_video(path, LIMIT).frames == 100
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VideoInvalid):
        check_video(path, LIMIT)


def test_a_picture_shorter_than_its_sound_is_no_damage(
    tmp_path: Path, make: Make, make_clip: Make
) -> None:
    clip = make_clip(tmp_path / "a.mp4", seconds=1)
    path = make("-i", clip, "-f", "lavfi", "-i", "sine=duration=3", tmp_path / "b.mp4")
    assert check_video(path, LIMIT).frames == 25


def test_a_file_without_pictures_is_no_video(tmp_path: Path, make: Make) -> None:
    sound = ("-f", "lavfi", "-i", "sine=duration=1")
    Image.new("RGB", (64, 64)).save(tmp_path / "cover.png")
    cover = ("-i", tmp_path / "cover.png", "-c:v", "png", "-disposition:v", "attached_pic")
    for path in (make(*sound, tmp_path / "a.mp4"), make(*sound, *cover, tmp_path / "b.mp4")):
        with pytest.raises(VideoInvalid, match="no video track"):
            check_video(path, LIMIT)


def test_a_video_of_no_frames_is_refused(tmp_path: Path, make_clip: Make) -> None:
    path = make_clip(tmp_path / "a.mp4", "-movflags", "empty_moov", "-frames:v", 0, seconds=0.2)
    with pytest.raises(VideoInvalid):
        check_video(path, LIMIT)
    with pytest.raises(VideoInvalid), open_frames(path) as frames:
        frames.frame(0)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, make_clip: Make) -> None:
    path = make_clip(tmp_path / "a.mp4", seconds=0.2)
    assert check_video(path, 64 * 48 / 1e6).width == 64
    with pytest.raises(VideoTooLarge):
        check_video(path, 64 * 48 / 1e6 - 1e-5)
    stretched = make_clip(tmp_path / "b.mp4", seconds=0.2, filters="setsar=1/20")
    with pytest.raises(VideoTooLarge):
        check_video(stretched, 64 * 960 / 1e6 - 1e-5)


def test_too_many_pixels_in_all_are_refused_by_the_header(tmp_path: Path, make_clip: Make) -> None:
    """Nothing is decoded then: of this file nothing could be."""
    path = make_clip(tmp_path / "a.mp4", *H264, "-movflags", "+faststart", seconds=0.4)
    assert check_video(path, LIMIT, 64 * 48 * 10).frames == 10
    path.write_bytes(path.read_bytes().partition(b"mdat")[0] + b"mdat")
    with pytest.raises(VideoTooLarge, match="at most 0 s"):
        check_video(path, LIMIT, 64 * 48 * 9)
    with pytest.raises(VideoInvalid):
        check_video(path, LIMIT, 64 * 48 * 10)


def test_a_header_without_a_length_does_not_hide_too_many_pixels(
    tmp_path: Path, make_clip: Make
) -> None:
    path = make_clip(tmp_path / "a.mkv", *H264, "-live", 1, seconds=2)
    assert probe(path).duration_s is None
    assert check_video(path, LIMIT, 64 * 48 * 50).frames == 50
    with pytest.raises(VideoTooLarge, match="too long for its size"):
        check_video(path, LIMIT, 64 * 48 * 49)


def test_four_hours_are_too_many_and_8k_is_too_large(tmp_path: Path, make_clip: Make) -> None:
    """By what the service allows unless told otherwise; nothing of them is decoded."""
    still = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", 40)
    path = make_clip(tmp_path / "a.mp4", *still, rate="1/3600", seconds=4 * 3600, filters=LARGE)
    with pytest.raises(VideoTooLarge, match="too long for its size"):
        check_video(path, LIMIT)
    path = make_clip(tmp_path / "b.mp4", *still, seconds=0.04, filters="scale=7680:4320")
    with pytest.raises(VideoTooLarge, match="more than 9 megapixels"):
        check_video(path, LIMIT)


@pytest.mark.parametrize(
    ("aspect", "reason"), [("12/1", "at most 8 times"), ("1/12", "at most 8 times")]
)
def test_a_shape_that_suits_no_portrait_is_refused(
    tmp_path: Path, make_clip: Make, aspect: str, reason: str
) -> None:
    path = make_clip(tmp_path / "a.mp4", seconds=0.2, filters=f"setsar={aspect}")
    with pytest.raises(VideoInvalid, match=reason):
        check_video(path, LIMIT)


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "ffconcat version 1.0\nfile clip.mp4\n", "v=0\no=- 0 0\n"],
    ids=["m3u8", "ffconcat", "sdp"],
)
def test_a_list_of_other_files_is_refused(tmp_path: Path, make_clip: Make, text: str) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.2)
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(UnsupportedMedia):
        check_video(tmp_path / "a.mp4", LIMIT)
    with pytest.raises(FileMissing):
        check_video(tmp_path / "none.mp4", LIMIT)


def test_altered_bytes_only_give_our_errors(tmp_path: Path, make_clip: Make) -> None:
    random = np.random.default_rng(0)
    for extension in ("mp4", "mkv"):
        path = make_clip(tmp_path / f"a.{extension}", seconds=0.4)
        whole = path.read_bytes()
        for _ in range(10):
            altered = bytearray(whole)
            for place in random.integers(0, len(whole), 20):
                altered[place] = random.integers(0, 256)
            path.write_bytes(altered)
            try:
                check_video(path, LIMIT)
            except (VideoInvalid, VideoTooLarge, UnsupportedMedia):
                continue


def test_closing_early_ends_the_decoder(tmp_path: Path, make_clip: Make) -> None:
    path = make_clip(tmp_path / "a.mp4", seconds=2, filters="scale=640:480")
    before = set(psutil.Process().children())
    frames = open_frames(path)
    frames.frame(0)
    (decoder,) = set(psutil.Process().children()) - before
    frames.close()
    assert not decoder.is_running()
    frames.close()
