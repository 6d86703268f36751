"""The whole way of real weights at full size: original files, `weights prepare`, load, one window.

Writes 56 GB of random original files and prepares them by the command that users run, so it needs
100 GB of disk, and a GPU. Each stage is a process of its own: its peak memory is the stage's.

python -m benchmarks.weights_full_size FOLDER
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    sources, weights = folder / "sources", folder / "weights"
    catalog = folder / "catalog.json"
    os.environ["INFINITETALK_WEIGHTS"] = str(weights)
    rows = [stage("write original files", "benchmarks.full_size_source", sources, catalog)]
    prepare = ("prepare", "--preset", "standard", "--from", sources, "--catalog", catalog)
    rows += [stage("infinitetalk weights prepare", "infinitetalk.cli", "weights", *prepare)]
    again = stage("the same again, nothing to do", "infinitetalk.cli", "weights", *prepare)
    note = (
        "`standard` in fp8 for one speaker: LoRA of rank 64 merged, 8 bits, every source and "
        "result hashed. Peak memory of the process, without the page cache."
    )
    record("Real weights at full size", ("stage", "seconds", "peak RAM, GB"), [*rows, again], note)
    shutil.rmtree(sources)
    for command in (
        ("benchmarks.load", weights / "standard-fp8-1", "--check"),
        ("benchmarks.full_size_window", weights),
    ):
        stage(*command[:1], *command)


def stage(name: str, module: str, *arguments: object) -> tuple[str, str, str]:
    """Run a Python process; its seconds and peak memory."""
    started = time.monotonic()
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} failed")
    peak = usage.ru_maxrss * 1024 / 1e9
    return name, f"{time.monotonic() - started:.0f}", f"{peak:.2f}"


if __name__ == "__main__":
    main()
