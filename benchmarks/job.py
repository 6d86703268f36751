"""Jobs of the full-size model from folder to video: seconds of the GPU for one of video, memory.

Weights are drawn, all else is real: the runner, the window writer, x264, the join. A length in
brackets is computed: its first window, then as many steady ones as it has, then the join.

python -m benchmarks.job [--parts fast,standard,growth] [--seconds 10] [--memory 44.5]
                         [--precision fp8] [--attention cudnn,eight_bit] [--windows 20] [--small]
"""

import argparse
import statistics
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.random_model import draw
from benchmarks.results import record
from infinitetalk.acceptance.clip import Clip, bundled_job, render_clip
from infinitetalk.acceptance.device_clock import device_clock, peak_on_host
from infinitetalk.config import Settings
from infinitetalk.progress import Progress, Stage
from infinitetalk.runner import Runner, choose_device
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import FPS, GenerationSpec, specify
from infinitetalk.weights.device_memory import GIB

DEVICE = choose_device("auto")
LENGTHS_S = (10.0, 60.0)  # of the clips that every table has, measured or computed
GROWTH = "growth"
SMALL = "tiny"


@dataclass(frozen=True, slots=True)
class Bench:
    """What is run, and where."""

    runner: Runner
    settings: Settings
    folder: Path

    def render(self, spec: GenerationSpec, seconds: float) -> Clip:
        """A job of its own; the peak of memory is counted from its start."""
        clock, frames = device_clock(DEVICE), round(seconds * FPS)
        if DEVICE.type == "cuda":  # what loading took is not the job's
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        folder = self.folder / spec.preset
        return render_clip(self.runner, spec, folder, self.settings, frames=frames, clock=clock)


def main() -> None:
    options = _parser().parse_args()
    preset = SMALL if options.small else "standard"  # loaded; all three have one architecture
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            home=Path(folder) / "home",
            precision=options.precision,
            memory_gigabytes=options.memory,
        )
        model, weights = draw(preset, settings, DEVICE)
        for attention in options.attention.split(","):
            chosen = replace(settings, attention=attention)
            bench = Bench(Runner.of(model, weights, chosen), chosen, Path(folder) / attention)
            bench.folder.mkdir()
            for part in options.parts.split(","):
                try:
                    measure(bench, part, options)
                except Exception:  # what one part lacks must not cost the others
                    print(f"{part} failed:", traceback.format_exc(), flush=True)


def measure(bench: Bench, part: str, options: argparse.Namespace) -> None:
    """Record the table of one part."""
    attention = bench.runner.attention
    how = f"{options.precision}, attention {attention}"
    if options.memory:
        how += f", held to {options.memory:g} GiB"
    if part == GROWTH:
        rows = list(growth(bench, options.windows, SMALL if options.small else "fast"))
        header = ("window", "allocated", "peak", "reserved", "peak of the host", "graphs")
        note = f"GiB at the end of every window of one step; {how}. Graphs: compiled so far."
        record("Memory over the windows of a job", header, rows, note)
        return
    spec = specify(SMALL if options.small else part)
    clip = bench.render(spec, options.seconds)
    note = f"One job, {how}. A length in brackets is computed from the windows of the one above."
    record(f"A job: {spec.preset}, {spec.resolution}", COLUMNS, list(job_rows(spec, clip)), note)


COLUMNS = (
    *("video, s", "windows", "seconds", "GPU-s per video-s", "first window", "steady window"),
    *("a forward", "not the transformer", "peak, GiB", "reserved, GiB"),
)


def job_rows(spec: GenerationSpec, clip: Clip) -> Iterator[tuple[str, ...]]:
    """The clip as it was measured, and others as they would be."""
    length, windows = clip.result.duration_s, len(clip.windows)
    yield (f"{length:g}", *_row(clip, windows, clip.seconds, length), *memory())
    for other in LENGTHS_S:
        if other != length:
            windows = WindowPlan(round(other * FPS), spec.window, spec.motion_frames).count
            yield (f"({other:g})", *_row(clip, windows, seconds_of(clip, windows), other), "", "")


def _row(clip: Clip, windows: int, seconds: float, length: float) -> tuple[str, ...]:
    """Of a job of so many windows, which takes `seconds`; its forwards take those of the clip."""
    forward = clip.stages[Stage.DENOISING] / clip.forwards
    in_forwards = forward * clip.forwards / len(clip.windows) * windows
    return (
        *(str(windows), f"{seconds:.1f}", f"{seconds / length:.2f}", f"{clip.windows[0]:.2f}"),
        *(f"{steady_window(clip):.2f}", f"{forward:.3f}", f"{1 - in_forwards / seconds:.1%}"),
    )


def steady_window(clip: Clip) -> float:
    """Median seconds of the windows between the first one and the last, which waits for x264."""
    windows = clip.windows
    return statistics.median(windows[1:-1] or windows[-1:])


def seconds_of(clip: Clip, windows: int) -> float:
    """What a job of so many windows would take."""
    around = clip.seconds - sum(clip.windows)  # before the first window and after the last
    return around + clip.windows[0] + (windows - 1) * steady_window(clip)


def growth(bench: Bench, windows: int, preset: str) -> Iterator[tuple[str, ...]]:
    """Memory after every window of a job of one step a window."""
    spec = specify(preset, steps=1)
    frames = spec.window + (windows - 1) * (spec.window - spec.motion_frames)
    job = bundled_job(spec, bench.folder / GROWTH, bench.settings, frames)
    rows: list[tuple[str, ...]] = []

    def note(progress: Progress) -> None:
        is_next = progress.stage is Stage.ENCODING and progress.window > 1
        if is_next or progress.stage is Stage.WRITING:
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            host = f"{peak_on_host() / GIB:.2f}"
            rows.append((str(len(rows) + 1), allocated(), *memory(), host, str(graphs)))
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()

    bench.runner.run(job, spec, on_progress=note)
    yield from rows


def allocated() -> str:
    return f"{torch.cuda.memory_allocated() / GIB:.3f}" if DEVICE.type == "cuda" else ""


def memory() -> tuple[str, str]:
    """The most that tensors took and that was reserved for them, GiB."""
    if DEVICE.type != "cuda":
        return "", ""
    torch.cuda.synchronize()
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return f"{peak / GIB:.2f}", f"{reserved / GIB:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="fast,standard,growth", help="presets, and growth")
    parser.add_argument("--seconds", type=float, default=10.0, help="of video")
    parser.add_argument("--memory", type=float, help="GiB, as on a smaller GPU")
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--attention", default="cudnn,eight_bit", help="one after another")
    parser.add_argument("--windows", type=int, default=20, help="of the part growth")
    parser.add_argument("--small", action="store_true", help="sizes of `tiny`, for a CPU")
    return parser


if __name__ == "__main__":
    main()
