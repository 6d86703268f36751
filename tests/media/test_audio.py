import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from infinitetalk.errors import (
    AudioInvalid,
    AudioTooLong,
    AudioTooShort,
    FileMissing,
    InvalidInput,
    NoAudioStream,
    UnsupportedMedia,
)
from infinitetalk.media.audio import SpeechFile, combine_speakers, decode_speech
from infinitetalk.media.loudness import measure, normalise
from infinitetalk.spec import SpeakingOrder

Make = Callable[..., Path]
Voice = Callable[..., np.ndarray]


def decoded(source: Path, max_seconds: float = 60) -> np.ndarray:
    target = source.with_name("speech.wav")
    info = decode_speech(source, target, max_seconds=max_seconds)
    wave, rate = soundfile.read(target, dtype="float32")
    assert (rate, wave.ndim, len(wave)) == (16000, 1, info.samples)
    return wave


def one_shot(wave: np.ndarray, rate: int) -> np.ndarray:
    return librosa.resample(wave, orig_sr=rate, target_sr=16000, res_type="soxr_hq")


def lag(wave: np.ndarray, wanted: np.ndarray, reach: int = 1500) -> int:
    """By how many samples `wave` is late."""
    middle = wanted[reach : min(len(wave), len(wanted)) - reach]
    likeness = np.correlate(wave[: len(middle) + 2 * reach], middle, "valid")
    return int(np.argmax(likeness)) - reach


def silence(path: Path, seconds: int) -> Path:
    """A 44.1 kHz stereo wav whose samples take no room on the disk."""
    soundfile.write(path, np.zeros((0, 2)), 44100, subtype="PCM_16")
    size = seconds * 44100 * 4
    with path.open("r+b") as file:
        header = bytearray(file.read(44))
        header[40:44] = min(size, 2**32 - 1).to_bytes(4, "little")
        file.seek(0)
        file.write(header)
        file.truncate(44 + size)
    return path


def test_speech_is_that_of_the_reference(tmp_path: Path, golden: Path) -> None:
    target = tmp_path / "speech.wav"
    info = decode_speech(golden / "case_wav2vec/speech_22050.wav", target, max_seconds=60)
    wanted = load_file(golden / "case_wav2vec/outputs.safetensors")["loaded_16k"]
    assert (info.duration_s, info.samples) == (50274 / 22050, len(wanted))
    with SpeechFile(target) as voice:
        assert np.abs(voice.read(0, voice.samples) - wanted).max() < 2e-3


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_averaged(tmp_path: Path, make_voice: Voice, channels: int) -> None:
    samples = make_voice(tmp_path / "a.wav", 44100, channels=channels)
    wanted = one_shot(samples.mean(axis=1), 44100)
    assert np.abs(decoded(tmp_path / "a.wav") - wanted).max() < 1e-4  # 16 bits


@pytest.mark.parametrize(
    ("extension", "encode"),
    [("mp3", ()), ("m4a", ()), ("ogg", ()), ("opus", ()), ("flac", ()), ("webm", ()), ("mka", ()),
     ("aiff", ()), ("mov", ("-c:a", "pcm_s24le")), ("wav", ("-c:a", "pcm_mulaw")),
     ("wav", ("-c:a", "pcm_u8")), ("wav", ("-c:a", "pcm_f64le")), ("wav", ("-ar", 192000)),
     ("mp3", ("-ar", 22050, "-ac", 1)), ("m4a", ("-ar", 48000, "-ac", 6)),
     ("mp4", ("-f", "lavfi", "-i", "color=red:size=64x48:duration=2"))],
)  # fmt: skip
def test_every_codec_is_taken_without_a_delay(
    tmp_path: Path, make: Make, make_voice: Voice, extension: str, encode: tuple[object, ...]
) -> None:
    wanted = one_shot(make_voice(tmp_path / "original.wav", channels=2).mean(axis=1), 44100)
    source = make("-i", tmp_path / "original.wav", *encode, tmp_path / f"a.{extension}")
    wave = decoded(source)
    assert lag(wave, wanted) == 0
    assert abs(len(wave) - len(wanted)) < 0.05 * 16000


ART = 200_000_000  # bytes


def test_a_cover_of_200_megabytes_is_no_obstacle(
    tmp_path: Path, make: Make, make_voice: Voice
) -> None:
    wanted = one_shot(make_voice(tmp_path / "original.wav")[:, 0], 44100)
    song = make("-i", tmp_path / "original.wav", "-id3v2_version", 0, tmp_path / "song.mp3")
    picture = b"\0image/png\0\3\0"
    frame = b"APIC" + (len(picture) + ART).to_bytes(4, "big") + b"\0\0" + picture
    size = len(frame) + ART
    packed = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    path = tmp_path / "a.mp3"
    with path.open("wb") as file:
        file.write(b"ID3\3\0\0" + packed + frame)
        file.seek(ART, 1)
        file.write(song.read_bytes())
    assert lag(decoded(path), wanted) == 0


def test_recordings_put_one_behind_the_other_are_one(
    tmp_path: Path, make: Make, make_voice: Voice
) -> None:
    first, second = (make_voice(tmp_path / f"{n}.wav", 48000, seconds=n)[:, 0] for n in (1, 2))
    parts = [make("-i", tmp_path / f"{n}.wav", tmp_path / f"{n}.ogg") for n in (1, 2)]
    path = tmp_path / "both.ogg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    wave = decoded(path, 3.1)
    assert abs(len(wave) - 3 * 16000) < 1600
    wanted = one_shot(np.concatenate([first, second]), 48000)
    assert abs(lag(wave, wanted)) < 64  # Vorbis ends on a whole block
    with pytest.raises(AudioTooLong):
        decoded(path, 2.5)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(16000), np.full(16000, 0.5), np.sign(np.sin(np.arange(16000) * 0.05))],
    ids=["silent", "constant", "clipped"],
)
def test_strange_but_finite_sound_is_taken_and_stays_finite(
    tmp_path: Path, samples: np.ndarray
) -> None:
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    wave = decoded(tmp_path / "a.wav")
    assert np.isfinite(normalise(wave, measure([wave]))).all()


def test_a_very_low_rate_or_a_broken_one_is_refused(tmp_path: Path, make_voice: Voice) -> None:
    for rate in (1, 3999, 800000):
        make_voice(tmp_path / "a.wav", 16000)
        wave = bytearray((tmp_path / "a.wav").read_bytes())
        wave[24:28] = rate.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(wave)
        with pytest.raises(AudioInvalid):
            decoded(tmp_path / "a.wav", 1e9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    wave = np.zeros(32000, np.float32)
    wave[20000] = value
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioInvalid):
        decoded(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(("samples", "is_enough"), [(0, False), (3199, False), (3200, True)])
def test_the_shortest_speech(tmp_path: Path, samples: int, is_enough: bool) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(samples), 16000)
    if is_enough:
        assert len(decoded(tmp_path / "a.wav")) == samples
        return
    with pytest.raises(AudioTooShort):
        decoded(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_the_longest_speech(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "a.wav", 8000, seconds=3)
    assert len(decoded(tmp_path / "a.wav", 3.0)) == 48000
    with pytest.raises(AudioTooLong):
        decoded(tmp_path / "a.wav", 2.999)


def test_an_endless_recording_is_not_decoded_to_its_end(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(AudioTooLong):
        decoded(silence(tmp_path / "ten_hours.wav", 36000), 5)
    assert time.monotonic() - started < 5


def test_a_length_in_the_header_is_not_believed(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "a.wav", 16000, seconds=2)
    wave = bytearray((tmp_path / "a.wav").read_bytes())
    wave[4:8] = wave[40:44] = (4_000_000_000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(wave)
    assert len(decoded(tmp_path / "a.wav", 2.5)) == 32000


def test_a_video_without_sound_has_none(tmp_path: Path, make_clip: Make) -> None:
    with pytest.raises(NoAudioStream):
        decoded(make_clip(tmp_path / "a.mp4", seconds=0.2))


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", UnsupportedMedia), (b"text", UnsupportedMedia), (b"RIFF\0\0\0\0WAVE", AudioInvalid),
     (b"ID3" + bytes(500), AudioInvalid), (b"fLaC" + bytes(500), InvalidInput)],
)  # fmt: skip
def test_what_is_no_sound_is_refused(
    tmp_path: Path, content: bytes, error: type[InvalidInput]
) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(error):
        decoded(tmp_path / "a.wav")
    with pytest.raises(FileMissing):
        decoded(tmp_path / "none.wav")


def test_damaged_sound_in_a_good_container_is_invalid(
    tmp_path: Path, make: Make, make_voice: Voice
) -> None:
    make_voice(tmp_path / "original.wav")
    source = make("-i", tmp_path / "original.wav", tmp_path / "a.m4a")
    whole = source.read_bytes()
    begin, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    source.write_bytes(whole[:begin] + b"\xff" * (end - begin) + whole[end:])
    with pytest.raises(AudioInvalid):
        decoded(source)
    assert not (tmp_path / "speech.wav").exists()


def test_altered_bytes_only_give_our_errors(tmp_path: Path, make: Make, make_voice: Voice) -> None:
    make_voice(tmp_path / "a.wav", 16000, seconds=0.5)
    random = np.random.default_rng(0)
    for extension in ("mp3", "m4a", "ogg", "flac"):
        path = make("-i", tmp_path / "a.wav", tmp_path / f"a.{extension}")
        whole = path.read_bytes()
        for _ in range(10):
            altered = bytearray(whole)
            for place in random.integers(0, len(whole), 20):
                altered[place] = random.integers(0, 256)
            path.write_bytes(altered)
            try:
                decoded(path)
            except InvalidInput:
                continue


def test_the_same_sound_gives_the_same_bytes(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "a.wav")
    for name in ("one", "two"):
        decode_speech(tmp_path / "a.wav", tmp_path / name, max_seconds=9)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


MEMORY = """
import resource, sys
from pathlib import Path
from infinitetalk.media.audio import SpeechFile, decode_speech
from infinitetalk.media.loudness import measure
def peak(source):
    decode_speech(Path(source), Path(source + ".wav"), max_seconds=1e4)
    with SpeechFile(Path(source + ".wav")) as voice:
        measure(voice.blocks())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
short = peak(sys.argv[1])
print((peak(sys.argv[2]) - short) / 1024)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path, make: Make) -> None:
    sources = [silence(tmp_path / f"{seconds}.wav", seconds) for seconds in (25, 600)]
    command = [sys.executable, "-c", MEMORY, *map(str, sources)]
    grown = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert float(grown.stdout) < 16  # MiB; the ten minutes are 100 MiB of float32


def test_a_speech_file_is_silent_outside(tmp_path: Path) -> None:
    wave = np.linspace(0.1, 1, 1000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    line = np.concatenate([np.zeros(500, np.float32), wave, np.zeros(500, np.float32)])
    with SpeechFile(tmp_path / "a.wav") as voice:
        assert voice.samples == 1000
        for start, stop in ((-500, 1500), (-9, 9), (990, 1400), (1200, 1300), (-20, -5), (3, 3)):
            assert np.array_equal(voice.read(start, stop), line[start + 500 : stop + 500])


def test_a_file_that_is_no_speech_file_is_refused(tmp_path: Path, make_voice: Voice) -> None:
    make_voice(tmp_path / "other_rate.wav", 22050)
    make_voice(tmp_path / "stereo.wav", 16000, channels=2)
    (tmp_path / "text.wav").write_text("text")
    for name in ("other_rate", "stereo", "text", "missing"):
        with pytest.raises(AudioInvalid):
            SpeechFile(tmp_path / f"{name}.wav")


@pytest.mark.parametrize("lengths", [(300, 500), (500, 300), (400, 400)])
def test_two_speakers_share_one_time_line(tmp_path: Path, lengths: tuple[int, int]) -> None:
    waves = [
        np.full(length, level, np.float32)
        for length, level in zip(lengths, (0.1, 0.2), strict=True)
    ]
    paths = (tmp_path / "first.wav", tmp_path / "second.wav")
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, 16000, subtype="FLOAT")

    def lines(order: SpeakingOrder) -> list[np.ndarray]:
        tracks = []
        for track in combine_speakers(*paths, order):
            with track.open() as voice:
                tracks.append(np.concatenate(list(voice.blocks(77))))
                assert voice.samples == track.samples == len(tracks[-1])
        return tracks

    longest = max(lengths)
    together = [np.pad(wave, (0, longest - len(wave))) for wave in waves]
    assert np.array_equal(lines(SpeakingOrder.TOGETHER), together)
    in_turn = [np.pad(waves[0], (0, lengths[1])), np.pad(waves[1], (lengths[0], 0))]
    assert np.array_equal(lines(SpeakingOrder.ONE_AFTER_THE_OTHER), in_turn)
