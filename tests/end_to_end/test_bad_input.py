"""What cannot be rendered is refused by its code, early, and leaves nothing behind."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.cli import main
from infinitetalk.config import Settings

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_HOME", str(settings.home))


@pytest.fixture(scope="module")
def bad(media: Path, portrait: Path, convert: Make) -> dict[str, Path]:
    """Files that are not what they say."""
    files = {name: media / name for name in ("text.png", "bomb.png", "empty.wav", "nan.wav")}
    files["text.png"].write_text("This is no picture.")
    size = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
    files["bomb.png"].write_bytes(b"\x89PNG\r\n\x1a\n" + header)
    files["empty.wav"].write_bytes(b"")
    samples = np.full(16000, np.nan, np.float32)
    soundfile.write(files["nan.wav"], samples, 16000, subtype="FLOAT")
    loop = ("-vf", "loop=loop=-1:size=1", "-frames:v", "50", "-pix_fmt", "yuv420p")
    whole = convert(portrait, media / "whole.mp4", *loop, "-movflags", "+faststart")
    files["cut.mp4"] = media / "cut.mp4"
    files["cut.mp4"].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    files["silent.mp4"] = whole
    files["short.wav"] = media / "short.wav"
    soundfile.write(files["short.wav"], np.ones(1600, np.float32) * 0.1, 16000)
    return files


CASES = [
    ("missing.png", None, "file_missing"),
    ("text.png", None, "unsupported_media"),
    ("bomb.png", None, "image_too_large"),
    ("cut.mp4", None, "video_invalid"),
    ("empty.wav", None, "unsupported_media"),
    (None, "missing.wav", "file_missing"),
    (None, "empty.wav", "unsupported_media"),
    (None, "nan.wav", "audio_invalid"),
    (None, "short.wav", "audio_too_short"),
    (None, "silent.mp4", "no_audio_stream"),
    (None, "text.png", "unsupported_media"),
]


@pytest.mark.parametrize(("image", "audio", "code"), CASES)
def test_bad_files_are_refused_by_their_code(
    image: str | None,
    audio: str | None,
    code: str,
    bad: dict[str, Path],
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = bad.get(image, tmp_path / image) if image else portrait
    voice = bad.get(audio, tmp_path / audio) if audio else make_speech(0.4)
    assert _generate(scene, voice, tmp_path) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith(f"({code})") and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "field"),
    [
        (("--steps", "0"), "steps"),
        (("--steps", "9999"), "steps"),
        (("--audio-guidance", "nan"), "audio_guidance"),
        (("--audio-guidance-interval", "1,3"), "audio_guidance_interval"),
        (("--step-cache-threshold", "-1"), "step_cache_threshold"),
        (("--text-guidance", "-1"), "text_guidance"),
        (("--resolution", "4k"), "4k"),
        (("--seed", "-1"), "seed"),
        (("--max-seconds", "0.01"), "max_seconds"),
        (("--prompt", "x" * 2001), "prompt"),
        (("--box", "0,0,10,10"), "--audio-2"),
    ],
)
def test_bad_options_are_refused_by_their_name(
    option: tuple[str, ...],
    field: str,
    portrait: Path,
    make_speech: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _generate(portrait, make_speech(0.4), tmp_path, *option) == 2
    assert field in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_box_outside_the_picture_is_refused_before_any_speech_is_decoded(
    portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = ("--box", "0,0,50,50", "--box", "0,0,9999,9999")
    second = ("--audio-2", str(tmp_path / "never_opened.wav"))
    assert _generate(portrait, make_speech(0.4), tmp_path, *second, *boxes) == 2
    assert "Box 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["video.avi", "video"])
def test_the_output_is_an_mp4(
    name: str, portrait: Path, make_speech: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = make_speech(0.4)
    files = ("--image", str(portrait), "--audio", str(speech), "--output", str(tmp_path / name))
    assert main(["generate", "--preset", "tiny", *files]) == 2
    assert ".mp4" in capsys.readouterr().err


def test_bad_input_is_refused_without_loading_torch(tmp_path: Path, settings: Settings) -> None:
    """What is not loaded cannot cost a second or a gigabyte."""
    program = (
        "import json, sys; from infinitetalk.cli import main; "
        f"code = main(['generate', '--image', {str(tmp_path / 'no.png')!r}, '--audio', 'no.wav', "
        f"'--output', {str(tmp_path / 'o.mp4')!r}]); "
        "heavy = [m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules]; "
        "print(json.dumps([code, heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [2, []]


def _generate(scene: Path, voice: Path, folder: Path, *options: str) -> int:
    files = ("--image", str(scene), "--audio", str(voice), "--output", str(folder / "out.mp4"))
    return main(["generate", "--preset", "tiny", *files, *options])
