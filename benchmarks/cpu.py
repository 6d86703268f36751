"""What a laptop user waits for: start, load, and the stages of a window, on this CPU.

python -m benchmarks.cpu
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

from benchmarks.results import record
from infinitetalk.config import let_idle_threads_sleep, load_settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.progress import Progress
from infinitetalk.spec import specify

let_idle_threads_sleep()

from infinitetalk.runner import Result, Runner  # noqa: E402  (loads torch)

ASSETS = Path(str(files("infinitetalk.demo") / "assets"))
PROGRAMS = {
    "import infinitetalk": "import infinitetalk",
    "refuse a missing picture": (
        "from infinitetalk.cli import main; main(['generate', '--preset', 'tiny', '--image', 'no', "
        "'--audio', 'no', '--output', 'no.mp4'])"
    ),
    "import infinitetalk.runner": "import infinitetalk.runner",
}


class StageClock:
    """Adds up the time between progress events by the stage they announce."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = "preparing"
        self._since = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        self.finish()
        self._stage = progress.stage.value

    def finish(self) -> None:
        """Close the stage that runs."""
        now = time.perf_counter()
        self.seconds[self._stage] += now - self._since
        self._since = now


def process_seconds(program: str, runs: int = 3) -> float:
    """Median wall time of a fresh Python process."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measure_preset(preset: str) -> list[tuple[str, str]]:
    """Load a preset and render the bundled sentence with it."""
    settings = load_settings()
    begun = time.perf_counter()
    runner = Runner.load(preset, settings)
    loaded = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as home:
        folder, spec = JobFolder(Path(home) / "job"), specify(preset)
        begun = time.perf_counter()
        create_job(folder, spec, ASSETS / "portrait.png", [ASSETS / "speech.flac"], settings)
        taken = time.perf_counter() - begun
        clock = StageClock()
        result = runner.run(folder, spec, on_progress=clock)
        clock.finish()
    return _rows(preset, loaded, taken, clock, result)


def _rows(
    preset: str, loaded: float, taken: float, clock: StageClock, result: Result
) -> list[tuple[str, str]]:
    total = sum(clock.seconds.values())
    rows = [(f"{preset}: load the model", f"{loaded:.2f} s")]
    rows.append((f"{preset}: check and normalise the media", f"{taken:.2f} s"))
    for stage in ("preparing", "encoding", "denoising", "decoding", "writing"):
        seconds = clock.seconds[stage]
        each = (
            f"{seconds / result.windows:.2f} s a window"
            if stage not in ("preparing", "writing")
            else "once"
        )
        rows.append((f"{preset}: {stage}", f"{seconds:.2f} s ({seconds / total:.0%}; {each})"))
    ratio = total / result.duration_s
    rows.append((f"{preset}: {result.duration_s:.2f} s of video", f"{total:.1f} s ({ratio:.1f} x)"))
    return rows


def main() -> None:
    rows = [(what, f"{process_seconds(program):.2f} s") for what, program in PROGRAMS.items()]
    for preset in ("tiny", "demo"):
        rows += measure_preset(preset)
    note = "Seconds of a fresh process are medians of 3; the rest is one run."
    record("CPU: start, load, render", ("what", "measured"), rows, note)


if __name__ == "__main__":
    main()
