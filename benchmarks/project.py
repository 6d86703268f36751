"""What a video costs, by GPU and preset: measured where somebody measured, predicted elsewhere.

    python -m benchmarks.project [--gpu L40S] [--preset standard] [--resolution 720p]
    python -m benchmarks.project --check    the model's error against what was measured
    python -m benchmarks.project --write    renews the tables of docs/cost.md

`roofline` predicts a forward, `job_cost` makes a bill of it. Needs neither torch nor a GPU.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.hardware import GPUS, Container, Gpu
from benchmarks.job_cost import JobCost, Usage, cost_of, ways
from benchmarks.measured import TODAY, Arithmetic, Attention, Code
from benchmarks.projection_error import comparisons
from benchmarks.roofline import FULL, Span, Way, gpu_called
from infinitetalk.spec import PRESETS

PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
BEGIN = "<!-- `python -m benchmarks.project --write` renews what follows -->"
END = "<!-- the end of it -->"
NAMES = ("fast", "standard", "best")
RESOLUTIONS = tuple(FULL.shift)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, or write those of the page."""
    options = _parser().parse_args(arguments)
    if options.write:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    elif options.check:
        print(error_table())
    else:
        print(detail_table(list(projected(options))))


def with_tables(page: str) -> str:
    """The page with what stands between its two marks made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{page_tables()}\n\n{END}{after}"


def page_tables() -> str:
    """All tables of docs/cost.md."""
    sections = (
        *((f"{size}: seconds of the GPU", speed_table(size)) for size in RESOLUTIONS),
        *((f"{size}: dollars", price_table(size)) for size in RESOLUTIONS),
        ("What starting and waiting add, on an L40S", usage_table(gpu_called("L40S"))),
        ("How far the model is off", error_table()),
    )
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)


def speed_table(resolution: str) -> str:
    """A forward, and what a second of video takes with every preset."""
    header = ["GPU", "arithmetic", "attention", "s a forward", "forward is", *NAMES]
    rows = [
        [*_named(costs[0]), *_forward(costs[0]), *(_range(c.gpu_s_per_video_s) for c in costs)]
        for costs in _all_presets(resolution)
    ]
    return _table(header, rows)


def price_table(resolution: str) -> str:
    """What a minute of video costs with every preset."""
    rows = [[*_named(costs[0]), *map(_billed, costs)] for costs in _all_presets(resolution)]
    return _table(["GPU", "arithmetic", "attention", *NAMES], rows)


def _all_presets(resolution: str) -> Iterator[list[JobCost]]:
    """All presets together, for every GPU and every way that fits it."""
    for gpu in GPUS:
        for way in ways(gpu, resolution, (TODAY,)):
            yield [
                cost_of(gpu, PRESETS[name], resolution, way, Usage(), Container()) for name in NAMES
            ]


def _named(cost: JobCost) -> tuple[str, ...]:
    return cost.gpu.name, cost.way.arithmetic, cost.way.attention


def usage_table(gpu: Gpu) -> str:
    """How the price of a video minute depends on how a container is used."""
    way = Way(Arithmetic.FP8, Attention.LIBRARY, TODAY)
    rows = []
    for video_s in (10.0, 60.0):
        for jobs in (1, 10, 100):
            usage = Usage(video_s=video_s, jobs=jobs)
            costs = [cost_of(gpu, PRESETS[name], "480p", way, usage, Container()) for name in NAMES]
            rows.append([f"{video_s:.0f} s", jobs, *map(_billed, costs)])
    return _table(["a video", "jobs one after another", *NAMES], rows)


def error_table() -> str:
    """Predicted beside measured."""
    rows = [
        [row.what, f"{row.predicted:.2f} s", f"{row.measured:.2f} s", f"{row.error:+.0%}", row.note]
        for row in comparisons()
    ]
    return _table(["H200", "predicted", "measured", "error", ""], rows)


def projected(options: argparse.Namespace) -> Iterator[JobCost]:
    """Every preset, GPU and way that the options ask for."""
    usage = Usage(options.video_s, options.jobs, options.cold_start_s, options.idle_s)
    container = Container(options.cores, options.memory_gib)
    for gpu in GPUS if options.gpu is None else [gpu_called(options.gpu)]:
        for way in ways(gpu, options.resolution, tuple(Code)):
            for name in NAMES if options.preset is None else [options.preset]:
                yield cost_of(gpu, PRESETS[name], options.resolution, way, usage, container)


def detail_table(costs: Sequence[JobCost]) -> str:
    """One row for each."""
    header = ["GPU", "preset", "arithmetic", "attention", "code", "s a forward", "forward is"]
    header += ["s a window", "GPU-s per video-s", "$ a minute, rendering", "$ a minute, billed"]
    rows = [
        [
            *(cost.gpu.name, cost.preset.name, cost.way.arithmetic, cost.way.attention),
            *(cost.way.code, *_forward(cost), _range(cost.window_s)),
            *(_range(cost.gpu_s_per_video_s), f"${_range(cost.dollars)}", _billed(cost)),
        ]
        for cost in costs
    ]
    return _table(header, rows)


def _forward(cost: JobCost) -> tuple[str, str]:
    """Its seconds, and how they are known."""
    return _range(cost.forward_s), "measured" if cost.is_measured else "predicted"


def _billed(cost: JobCost) -> str:
    return f"${_range(cost.billed)}"


def _range(span: Span) -> str:
    """Both ends, or one figure where they are equal; about three digits."""
    digits = 2 if span.high < 10 else 1 if span.high < 100 else 0
    low, high = f"{span.low:.{digits}f}", f"{span.high:.{digits}f}"
    return low if low == high else f"{low}-{high}"


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.project",
        description="Seconds and dollars of a video, by GPU and preset.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    usage, container = Usage(), Container()
    parser.add_argument("--gpu", choices=[gpu.name for gpu in GPUS])
    parser.add_argument("--preset", choices=NAMES)
    parser.add_argument("--resolution", choices=RESOLUTIONS, default=RESOLUTIONS[0])
    parser.add_argument("--video-s", type=float, default=usage.video_s, help="of a job")
    parser.add_argument("--jobs", type=int, default=usage.jobs, help="one after another")
    parser.add_argument("--cold-start-s", type=float, default=usage.cold_start_s, help="paid once")
    parser.add_argument("--idle-s", type=float, default=usage.idle_s, help="paid after the last")
    parser.add_argument("--cores", type=float, default=container.cores, help="physical cores")
    parser.add_argument("--memory-gib", type=float, default=container.memory_gib, help="of RAM")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="show the error of the model")
    action.add_argument("--write", action="store_true", help="renew the tables of docs/cost.md")
    return parser


if __name__ == "__main__":
    main()
