"""A video of any length: memory holds one window, and nobody sees where windows meet."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder
from infinitetalk.spec import specify
from tests.end_to_end.reading import check_video, read_video

Make = Callable[..., Path]
MEGABYTE = 1e6
MINUTE = 65  # seconds: and more

# Not ru_maxrss: on Linux a new process inherits that of the process that started it.
PROGRAM = """
import re, sys
from pathlib import Path
from infinitetalk.config import load_settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.runner import Runner
from infinitetalk.spec import specify

spec, folder, settings = specify("tiny"), JobFolder(Path(sys.argv[1])), load_settings()
create_job(folder, spec, Path(sys.argv[2]), [Path(sys.argv[3])], settings)
Runner.load("tiny", settings).run(folder, spec)
peak_kb = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
print(int(peak_kb) * 1024)
"""


@dataclass(frozen=True, slots=True)
class Alone:
    """What a process left that rendered one job; `peak`: its memory in bytes."""

    folder: JobFolder
    speech: Path
    peak: int


@pytest.fixture(scope="module")
def render_alone(
    portrait: Path, make_speech: Make, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Alone]:
    """Renders so many seconds in a process of their own, once."""

    @cache
    def render(seconds: int) -> Alone:
        folder = tmp_path_factory.mktemp("job") / "job"
        speech = make_speech(float(seconds), rate=16000, channels=1)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), str(portrait), str(speech)],
            env={**os.environ, "INFINITETALK_HOME": str(settings.home)},
            capture_output=True,
            text=True,
            check=True,
        )
        return Alone(JobFolder(folder), speech, int(done.stdout))

    return render


@pytest.mark.parametrize(
    "seconds", [MINUTE, pytest.param(600, marks=pytest.mark.slow)], ids=["65 s", "10 min"]
)
def test_a_long_voice_needs_no_more_memory_than_a_short_one(
    seconds: int, render_alone: Callable[[int], Alone]
) -> None:
    short, long = render_alone(10), render_alone(seconds)
    print(f"{short.peak / MEGABYTE:.0f} MB, {long.peak / MEGABYTE:.0f} MB for {seconds} s")
    assert len(read_video(long.folder.result).times) == seconds * 25
    assert long.peak - short.peak < 200 * MEGABYTE


def test_a_minute_and_more_has_no_cut(render_alone: Callable[[int], Alone]) -> None:
    long, spec = render_alone(MINUTE), specify("tiny")
    assert len(list((long.folder.root / "fragments").glob("*.m4s"))) == 58
    check_video(long.folder.result, long.speech, spec)
