"""Memory holds one window, whatever the length of the video."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.spec import specify
from tests.end_to_end.reading import read_video

Make = Callable[..., Path]
MEGABYTE = 1e6

# Not ru_maxrss: on Linux a new process inherits that of the process that started it.
PROGRAM = """
import json, re, sys
from pathlib import Path
from infinitetalk.config import load_settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.runner import Runner
from infinitetalk.spec import specify

spec, folder, settings = specify("tiny"), JobFolder(Path(sys.argv[1])), load_settings()
create_job(folder, spec, Path(sys.argv[2]), [Path(sys.argv[3])], settings)
result = Runner.load("tiny", settings).run(folder, spec)
peak_kb = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
print(json.dumps([result.frames, int(peak_kb) * 1024]))
"""


def _peak(folder: Path, scene: Path, speech: Path, settings: Settings) -> tuple[int, float]:
    """Frames rendered and peak memory in bytes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(scene), str(speech)],
        env={**os.environ, "INFINITETALK_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        check=True,
    )
    frames, peak = json.loads(done.stdout)
    return frames, peak


@pytest.mark.parametrize(
    "seconds", [65, pytest.param(600, marks=pytest.mark.slow)], ids=["65 s", "10 min"]
)
def test_a_long_voice_needs_no_more_memory_than_a_short_one(
    seconds: int, portrait: Path, make_speech: Make, settings: Settings, tmp_path: Path
) -> None:
    short = make_speech(10.0, rate=16000, channels=1)
    long = make_speech(float(seconds), rate=16000, channels=1)
    _, short_peak = _peak(tmp_path / "short", portrait, short, settings)
    frames, long_peak = _peak(tmp_path / "long", portrait, long, settings)
    assert frames == seconds * 25
    print(f"peak {short_peak / MEGABYTE:.0f} MB, {long_peak / MEGABYTE:.0f} MB for {seconds} s")
    assert long_peak - short_peak < 200 * MEGABYTE


def test_fragments_of_a_long_video_join_without_a_jump(
    portrait: Path, make_speech: Make, settings: Settings, tmp_path: Path
) -> None:
    _peak(tmp_path / "job", portrait, make_speech(20.0, rate=16000, channels=1), settings)
    folder = JobFolder(tmp_path / "job")
    assert len(list((folder.root / "fragments").glob("*.m4s"))) == 18
    times = read_video(folder.result).times
    assert times == pytest.approx([k / 25 for k in range(500)], abs=1e-6)
    assert specify("tiny").window < len(times)
