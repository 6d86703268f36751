"""How long it is from the start of a process to its first denoising step: cold, and once more.

Two processes follow each other with one home: the first finds no compiled kernels and no measured
attention there, the second those of the first. Weights are drawn, not read (`benchmarks.load`).

python -m benchmarks.start [--preset standard] [--precision fp8] [--memory GIB] [--compile auto]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from infinitetalk.acceptance.start import FIRST_STEP, PARTS, process_start, time_start
from infinitetalk.config import Settings

RUNS = ("cold", "warm")
Parts = Mapping[str, float]


def main() -> None:
    options = _parser().parse_args()
    if options.child is not None:
        print(json.dumps(start(options)))
        return
    from benchmarks.results import record

    header = ("part", *(f"{run}, s" for run in RUNS), "times faster")
    note = (
        f"`{options.preset}` in {options.precision}. Weights are drawn on the device instead of "
        "read. Cold: no compiled kernels, no measured attention. Warm: those of the cold start."
    )
    with tempfile.TemporaryDirectory() as home:
        cold, warm = (child(sys.argv[1:], Path(home)) for _ in RUNS)
    record("Process start to first step", header, list(rows(cold, warm)), note)


def start(options: argparse.Namespace) -> Parts:
    """The start of this process, by part."""
    from benchmarks.random_model import drawing
    from infinitetalk.acceptance.device_clock import device_clock
    from infinitetalk.runner import choose_device
    from infinitetalk.spec import specify

    home, device = options.child, choose_device("auto")
    settings = Settings(
        home=home,
        precision=options.precision,
        compile=options.compile,
        memory_gigabytes=options.memory,
    )
    load, spec = drawing(options.preset, settings, device), specify(options.preset)
    with tempfile.TemporaryDirectory() as scratch:
        clock, folder = device_clock(device), Path(scratch) / "job"
        parts = time_start(load, spec, settings, folder, clock, process_start()).parts
    return {part["name"]: part["seconds"] for part in map(asdict, parts)}


def child(arguments: Sequence[str], home: Path) -> Parts:
    """The start of another process."""
    command = [sys.executable, "-m", "benchmarks.start", *arguments, "--child", str(home)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    parts: Parts = json.loads(done.stdout.splitlines()[-1])
    return parts


def rows(cold: Parts, warm: Parts) -> Iterator[tuple[str, ...]]:
    """Every part of both, then the sums to the beginning and to the end of the first step."""
    for part in PARTS:
        yield _row(part.replace("_", " "), cold[part], warm[part])
    until = [sum(parts.values()) - parts[FIRST_STEP] for parts in (cold, warm)]
    yield _row("to the first step", *until)
    yield _row("to its end", sum(cold.values()), sum(warm.values()))


def _row(name: str, cold: float, warm: float) -> tuple[str, ...]:
    return name, f"{cold:.2f}", f"{warm:.2f}", f"{cold / warm:.1f}" if warm > 0 else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--precision", default="fp8")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--memory", type=float, help="GiB, as on a smaller GPU")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
