import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from infinitetalk.errors import EncodingFailed, NoAudioStream, UnsupportedMedia
from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.video import VideoFrames
from infinitetalk.media.writer import (
    count_frames,
    join,
    write_fragment,
    write_sound,
    writing_sound,
)
from infinitetalk.spec import SpeakingOrder

Make = Callable[..., Path]
Voice = Callable[..., np.ndarray]


def moving(count: int, first: int = 0) -> np.ndarray:
    """A pattern that moves; frame k looks the same wherever the window begins."""
    y, x = np.mgrid[:48, :64]
    frames = [np.stack([(4 * x + 3 * k) % 256, (5 * y + k) % 256, x + y + k], axis=-1) for k in
              range(first, first + count)]  # fmt: skip
    return np.clip(frames, 0, 255).astype(np.uint8)


def fragments(folder: Path, *lengths: int) -> list[Path]:
    paths, first = [], 0
    for number, length in enumerate(lengths):
        paths.append(folder / f"{number:05d}.m4s")
        write_fragment(moving(length, first), paths[-1])
        first += length
    return paths


def joined(folder: Path, soundtrack: Soundtrack, *lengths: int) -> Path:
    target, encoded = folder / "result.mp4", folder / "sound.m4a"
    tags = {"title": "a=b", "comment": "it's\nmade by a machine; #1"}
    write_sound(soundtrack, encoded, sum(lengths))
    join(fragments(folder, *lengths), encoded, target, frames=sum(lengths), metadata=tags)
    return target


def encoded(folder: Path, frames: int, make_voice: Voice) -> Path:
    """The sound of so many frames."""
    make_voice(folder / "voice.wav")
    write_sound(Soundtrack(folder / "voice.wav"), folder / "sound.m4a", frames)
    return folder / "sound.m4a"


def sound(path: Path) -> np.ndarray:  # -> c s
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)


def lag(wave: np.ndarray, wanted: np.ndarray, reach: int = 3000) -> int:
    """By how many samples `wave` is late."""
    middle = wanted[reach : min(len(wave), len(wanted)) - reach]
    likeness = np.correlate(wave[: len(middle) + 2 * reach], middle, "valid")
    return int(np.argmax(likeness)) - reach


def likeness(wave: np.ndarray, wanted: np.ndarray) -> float:
    length = min(len(wave), len(wanted))
    return float(np.corrcoef(wave[:length], wanted[:length])[0, 1])


@pytest.mark.parametrize("count", [1, 2, 33, 81])
def test_a_fragment_holds_its_frames(tmp_path: Path, count: int) -> None:
    frames = moving(count)
    write_fragment(frames, tmp_path / "0.m4s")
    assert count_frames(tmp_path / "0.m4s") == count
    with av.open(str(tmp_path / "0.m4s")) as file:
        shown = list(file.decode(video=0))
    assert [frame.time for frame in shown] == pytest.approx([k / 25 for k in range(count)])
    assert [frame.key_frame for frame in shown] == [True] + [False] * (count - 1)
    picture = shown[-1].to_ndarray(format="rgb24").astype(int)
    assert np.abs(picture - frames[-1]).mean() < 8  # colour has half the resolution in yuv420p


def test_a_fragment_is_tagged_as_bt709_and_keeps_its_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 1, 1, 3), np.uint8)
    write_fragment(np.broadcast_to(colours, (40, 48, 64, 3)), tmp_path / "0.m4s")
    with av.open(str(tmp_path / "0.m4s")) as file:
        frame = next(file.decode(video=0))
        tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
        assert (tags, frame.format.name) == ((1, 1, 1, 1), "yuv420p")
    with VideoFrames(tmp_path / "0.m4s", max_megapixels=1) as frames:
        shown = np.stack([frames.frame(index)[24, 32] for index in range(40)]).astype(int)
    assert np.abs(shown - colours[:, 0, 0]).max() <= 4
    assert np.abs((shown - colours[:, 0, 0]).mean()) < 0.3  # neither darker nor brighter


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_fragment(moving(20), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_fragments_of_any_length_join_at_exact_times(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "voice.wav")
    lengths = (33, 1, 28, 7)
    path = joined(tmp_path, Soundtrack(tmp_path / "voice.wav"), *lengths)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.size]
        assert [packet.pts * stream.time_base * 25 for packet in packets] == list(range(69))
        assert all(packet.pts == packet.dts for packet in packets)
        keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
        assert (keys, stream.average_rate) == ([0, 33, 34, 62], 25)
    parts = [tmp_path / f"{number:05d}.m4s" for number in range(len(lengths))]
    assert decoded_frames(path) == [frame for part in parts for frame in decoded_frames(part)]


def decoded_frames(path: Path) -> list[str]:
    with av.open(str(path)) as file:
        return [hashlib.sha256(frame.to_ndarray()).hexdigest() for frame in file.decode(video=0)]


def test_a_result_is_made_for_the_web(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "voice.wav")
    path = joined(tmp_path, Soundtrack(tmp_path / "voice.wav"), 10, 5)
    whole = path.read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    with av.open(str(path)) as file:
        assert file.metadata["comment"] == "it's\nmade by a machine; #1"
        assert file.metadata["title"] == "a=b"
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]


def test_two_runs_give_the_same_bytes(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "voice.wav")
    results = [
        joined(tmp_path, Soundtrack(tmp_path / "voice.wav"), 10, 5).read_bytes() for _ in "12"
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize("frames", [10, 50, 80])
@pytest.mark.parametrize("extension", ["wav", "mp3", "m4a", "opus"])
def test_the_sound_is_in_time_and_as_long_as_the_picture(
    tmp_path: Path, make: Make, make_voice: Voice, frames: int, extension: str
) -> None:
    wanted = make_voice(tmp_path / "voice.wav", channels=2)
    voice = make("-i", tmp_path / "voice.wav", tmp_path / f"given.{extension}")
    path = joined(tmp_path, Soundtrack(voice), frames)
    wave = sound(path)
    rate = 48000 if extension == "opus" else 44100
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        assert stream.duration * stream.time_base * 25 == frames
        assert (stream.rate, stream.codec_context.channels) == (rate, 2)
    if rate == 44100:
        assert lag(wave[0], wanted[:, 0]) == 0
        assert likeness(wave[0], wanted[: frames * 1764, 0]) > 0.9
        assert np.abs(wave[0, 44100 * 2 + 2000 :]).max(initial=0) < 1e-3  # silence after its end


@pytest.mark.parametrize(
    ("rate", "channels", "wanted"),
    [(8000, 1, (8000, 1)), (22050, 1, (22050, 1)), (96000, 2, (96000, 2)), (192000, 2, (48000, 2)),
     (44101, 1, (48000, 1)), (5000, 1, (48000, 1)), (48000, 12, (48000, 2)),
     *((48000, channels, (48000, channels)) for channels in range(3, 9))],
)  # fmt: skip
def test_the_sound_keeps_its_rate_and_channels_where_aac_can(
    tmp_path: Path,
    make: Make,
    make_voice: Voice,
    rate: int,
    channels: int,
    wanted: tuple[int, int],
) -> None:
    make_voice(tmp_path / "voice.wav", rate, seconds=1, channels=channels)
    path = joined(tmp_path, Soundtrack(tmp_path / "voice.wav"), 20)
    with av.open(str(path)) as file:
        context = file.streams.audio[0].codec_context
        assert (context.sample_rate, context.channels) == wanted
    wave, _ = soundfile.read(make("-i", path, tmp_path / "decoded.wav"), always_2d=True)
    assert np.abs(wave).max() > 0.01


@pytest.mark.parametrize("order", list(SpeakingOrder))
@pytest.mark.parametrize("rates", [(44100, 44100), (44100, 22050), (22050, 44100)])
def test_two_voices_are_mixed_or_follow_each_other(
    tmp_path: Path, make_voice: Voice, order: SpeakingOrder, rates: tuple[int, int]
) -> None:
    paths = (tmp_path / "first.wav", tmp_path / "second.wav")
    seconds = (1.0, 1.4)
    waves = []
    for path, rate, length in zip(paths, rates, seconds, strict=True):
        wave = make_voice(path, rate, seconds=length)[:, 0] * 0.4
        soundfile.write(path, wave, rate, subtype="FLOAT")
        place = np.arange(round(length * 44100)) * rate / 44100
        waves.append(np.interp(place, np.arange(len(wave)), wave))
    wave = sound(joined(tmp_path, Soundtrack(*paths, order), 60))
    assert len(wave) == 1
    if order is SpeakingOrder.TOGETHER:
        wanted = np.pad(waves[0], (0, len(waves[1]) - len(waves[0]))) + waves[1]
    else:
        wanted = np.concatenate(waves)
    assert lag(wave[0], wanted) == 0
    assert likeness(wave[0], wanted) > 0.9  # 22 kHz was interpolated linearly here
    assert np.std(wave[0, : len(wanted)]) == pytest.approx(np.std(wanted), rel=0.1)


def test_a_mix_of_loud_voices_does_not_clip(tmp_path: Path) -> None:
    time = np.arange(88200) / 44100
    for name in ("first.wav", "second.wav"):
        loud = 0.95 * np.minimum(10 * time, 1)
        soundfile.write(tmp_path / name, loud * np.sin(2 * np.pi * 220 * time), 44100)
    voices = Soundtrack(tmp_path / "first.wav", tmp_path / "second.wav")
    wave = sound(joined(tmp_path, voices, 50))[0]
    assert 0.9 < np.abs(wave).max() <= 1.0


def test_the_sound_of_a_video_can_be_the_soundtrack(
    tmp_path: Path, make: Make, make_clip: Make, make_voice: Voice
) -> None:
    wanted = make_voice(tmp_path / "voice.wav")[:, 0]
    clip = make_clip(tmp_path / "clip.mp4")
    talk = make("-i", clip, "-i", tmp_path / "voice.wav", "-c:v", "copy", tmp_path / "talk.mp4")
    assert lag(sound(joined(tmp_path, Soundtrack(talk), 40))[0], wanted) == 0


def test_folders_of_any_name_are_joined(tmp_path: Path, make_voice: Voice) -> None:
    folder = tmp_path / "it's \\ a 'folder' #1 %d ü"
    folder.mkdir()
    make_voice(folder / "voice.wav")
    assert count_frames(joined(folder, Soundtrack(folder / "voice.wav"), 3, 3)) == 6


def test_a_result_with_missing_frames_gets_no_name(tmp_path: Path, make_voice: Voice) -> None:
    parts, heard = fragments(tmp_path, 5, 5), encoded(tmp_path, 11, make_voice)
    with pytest.raises(EncodingFailed) as failed:
        join(parts, heard, tmp_path / "result.mp4", frames=11, metadata={})
    assert failed.value.message == "The video has 10 frames instead of 11."
    assert not (tmp_path / "result.mp4").exists()


def test_a_damaged_fragment_fails(tmp_path: Path, make_voice: Voice) -> None:
    parts, heard = fragments(tmp_path, 5, 5), encoded(tmp_path, 10, make_voice)
    for damage in (b"", parts[1].read_bytes()[:900]):
        parts[1].write_bytes(damage)
        with pytest.raises(EncodingFailed) as failed:
            join(parts, heard, tmp_path / "result.mp4", frames=10, metadata={})
        assert str(tmp_path) not in failed.value.message
    assert not (tmp_path / "result.mp4").exists()


def test_damaged_sound_fails(tmp_path: Path, make_voice: Voice) -> None:
    parts, heard = fragments(tmp_path, 5, 5), encoded(tmp_path, 10, make_voice)
    heard.write_bytes(heard.read_bytes()[:-200])
    with pytest.raises(EncodingFailed):
        join(parts, heard, tmp_path / "result.mp4", frames=10, metadata={})


def test_a_soundtrack_that_is_none_is_refused(tmp_path: Path, make_clip: Make) -> None:
    silent = make_clip(tmp_path / "silent.mp4", seconds=0.2)
    (tmp_path / "text.wav").write_text("text")
    for path, error in ((silent, NoAudioStream), (tmp_path / "text.wav", UnsupportedMedia)):
        with pytest.raises(error):
            write_sound(Soundtrack(path), tmp_path / "sound.m4a", 5)


def test_sound_is_written_beside_what_the_block_does(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "voice.wav")
    soundtrack, target = Soundtrack(tmp_path / "voice.wav"), tmp_path / "sound.m4a"
    with writing_sound(soundtrack, target, 20):
        pass
    first = target.stat()
    with writing_sound(soundtrack, target, 20):  # a resumed job has it already
        pass
    assert sound(target).shape[1] >= 20 * 1764
    assert target.stat() == first


def test_sound_nobody_wants_any_more_is_left_at_once(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "voice.wav")
    soundtrack, hours = Soundtrack(tmp_path / "voice.wav"), 10 * 3600 * 25
    with pytest.raises(LookupError), writing_sound(soundtrack, tmp_path / "sound.m4a", hours):
        raise LookupError
    assert [path.name for path in tmp_path.iterdir()] == ["voice.wav"]


def test_sound_that_cannot_be_written_fails_the_block(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("text")
    soundtrack = Soundtrack(tmp_path / "text.wav")
    with pytest.raises(UnsupportedMedia), writing_sound(soundtrack, tmp_path / "sound.m4a", 5):
        pass


def test_a_folder_that_is_gone_is_an_encoding_failure(tmp_path: Path) -> None:
    with pytest.raises(EncodingFailed):
        write_fragment(moving(3), tmp_path / "none" / "0.m4s")


def test_what_does_not_decode_has_no_count(tmp_path: Path) -> None:
    (tmp_path / "0.m4s").write_bytes(b"text")
    with pytest.raises(EncodingFailed):
        count_frames(tmp_path / "0.m4s")
