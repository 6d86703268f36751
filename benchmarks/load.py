"""How fast a prepared model loads, beside what the disk gives, and what memory that takes.

Every load runs in a process of its own. "Cold" is after the files were dropped from the page cache;
the disk's own cache, or that of the machine below this one, stays. So the raw rate is measured
before and after the loads, and the best one counts.

python -m benchmarks.load FOLDER [--text-encoder device|device_fp8|cpu] [--check]
"""

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from benchmarks.results import record
from infinitetalk.weights.convert import COMPONENTS, sources
from infinitetalk.weights.load import Model, load_model
from infinitetalk.weights.model_config import read_model_config
from infinitetalk.weights.prepared import read_manifest, verify, weights_file
from infinitetalk.weights.reading import READERS, SPAN
from infinitetalk.weights.tensor_file import TensorFile
from infinitetalk.weights.text_placement import TextPlacement

GB = 1e9
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32


def main() -> None:
    options = parse_options()
    if options.once:
        print(json.dumps(load_once(options.folder, options.text_encoder, check=options.check)))
    else:
        compare(options)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text-encoder", type=TextPlacement, default=TextPlacement.DEVICE)
    parser.add_argument("--check", action="store_true", help="compare every tensor with its file")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(options: argparse.Namespace) -> None:
    """Measure raw reads and loads in turn, and record them."""
    files = [options.folder / weights_file(name) for name in COMPONENTS]
    size = sum(path.stat().st_size for path in files)
    manifest = read_manifest(options.folder)
    started = time.perf_counter()
    verify(options.folder, manifest, deep=True)  # and noted, so that no load hashes
    rows = [row("hashing", size, time.perf_counter() - started)]
    raw = [raw_read(files, direct=direct) for direct in (False, True)]
    left = drop(files)
    cold = load_in_a_process(options, check=False)
    warm = load_in_a_process(options, check=options.check)
    raw.append(raw_read(files, direct=True))  # drops the page cache
    for name, seconds in zip(
        ("raw reads", "raw reads past the page cache", "the same after the loads"),
        raw,
        strict=True,
    ):
        rows.append(row(name, size, seconds))
    rows += [*load_rows("cold", cold), *load_rows("warm", warm)]
    fastest = min(seconds for seconds in raw if seconds)
    note = (
        f"{manifest.preset} in {manifest.precision}, text encoder: {options.text_encoder}, "
        f"{READERS} reads of {SPAN >> 20} MiB in flight. The cold load ran at "
        f"{fastest / cold['seconds']:.0%} of the best raw rate; {left:.0%} of the files could not "
        "be dropped from the page cache. Peak of the host's memory (VmHWM): "
        f"{in_gib(cold['peak'])} cold, {in_gib(warm['peak'])} warm, {in_gib(cold['before'])} "
        f"before loading. Peak on the device: {in_gib(cold['device_peak'])}. {warm['checked']} "
        "tensors compared with plain reads of the files."
    )
    record("Loading a prepared model", ("what", "GB", "seconds", "GB/s"), rows, note)


def row(name: str, size: float, seconds: float | None) -> tuple[str, ...]:
    if seconds is None:
        return name, f"{size / GB:.2f}", "not possible here", ""
    return name, f"{size / GB:.2f}", f"{seconds:.2f}", f"{size / seconds / GB:.2f}"


def load_rows(state: str, load: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Every network, and all of them with what is between them."""
    for name, (size, seconds) in load["networks"].items():
        yield row(f"{state}: {name}", size, seconds)
    size = sum(size for size, _ in load["networks"].values())
    yield row(f"{state}: load_model", size, load["seconds"])


def in_gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


# -- one load, in a process of its own -----------------------------------------------------------


def load_in_a_process(options: argparse.Namespace, *, check: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load", str(options.folder), "--once"]
    command += ["--text-encoder", options.text_encoder, *(["--check"] if check else [])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def load_once(folder: Path, text_encoder: TextPlacement, *, check: bool) -> dict[str, Any]:
    """Load, and say how long each network took and how much memory all of it."""
    torch.empty(1, device=DEVICE)  # the driver's own start is no part of it
    before = peak_of_host()
    marks: dict[str, tuple[float, int]] = {}  # network -> when it began, its bytes

    def note(name: str, _done: int, total: int) -> None:
        marks.setdefault(name, (time.perf_counter(), total))

    started = time.perf_counter()
    model = load_model(folder, DEVICE, PRECISION, text_encoder=text_encoder, on_progress=note)
    ended = time.perf_counter()
    begins = [begin for begin, _ in marks.values()]
    seconds = [end - begin for begin, end in zip(begins, [*begins[1:], ended], strict=True)]
    sizes = [size for _, size in marks.values()]
    return {
        "seconds": ended - started,
        "networks": dict(zip(marks, zip(sizes, seconds, strict=True), strict=True)),
        "before": before,
        "peak": peak_of_host(),
        "device_peak": torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0,
        "checked": sum(check_network(folder, model, name) for name in COMPONENTS) if check else 0,
    }


def peak_of_host() -> int:
    """Bytes this process has had in memory at most; getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def check_network(folder: Path, model: Model, name: str) -> int:
    """Compare a network with plain reads of its file; returns how many tensors are equal."""
    network = getattr(model, name)
    state = network.state_dict()
    if any(key.endswith("weight_float8") for key in state) and name == "text_encoder":
        return 0  # quantised on the way
    config = getattr(read_model_config(folder), name)
    with TensorFile(folder / weights_file(name), weights_file(name)) as file:
        for target, source in sources(name, config, network).items():
            found = state[target]
            read = [file.read(key) for key in source.keys]
            expected = source.take(read).to(found.device, found.dtype)
            same = found.contiguous().view(torch.uint8) == expected.contiguous().view(torch.uint8)
            assert bool(same.all()), f"{name}: {target} is not what the file holds"
    return len(state)


# -- the disk alone ------------------------------------------------------------------------------


def raw_read(files: Sequence[Path], *, direct: bool) -> float | None:
    """Seconds to read the files as the loader does and throw the bytes away.

    Args:
        direct: past the page cache; None where the file system cannot.
    """
    drop(files)
    buffers: SimpleQueue[mmap.mmap] = SimpleQueue()
    for _ in range(READERS):
        buffers.put(mmap.mmap(-1, SPAN))
    try:
        opened = [os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0)) for path in files]
    except (OSError, AttributeError):
        return None

    def read(place: tuple[int, int]) -> None:
        buffer = buffers.get()
        os.preadv(place[0], [buffer], place[1])
        buffers.put(buffer)

    places = [
        (handle, start)
        for handle, path in zip(opened, files, strict=True)
        for start in range(0, path.stat().st_size, SPAN)
    ]
    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, places))
    seconds = time.perf_counter() - started
    for handle in opened:
        os.close(handle)
    return seconds


def drop(files: Sequence[Path]) -> float:
    """Take files out of the page cache; returns the share of them that is still there."""
    if not hasattr(os, "posix_fadvise"):
        return 1.0
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    size = sum(path.stat().st_size for path in files)
    return sum(cached_share(path) * path.stat().st_size for path in files) / size


def cached_share(path: Path) -> float:
    """Share of a file's pages that the kernel holds."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (len(mapped) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        states = (ctypes.c_ubyte * pages)()
        start = ctypes.c_char.from_buffer(mapped)
        length = ctypes.c_size_t(len(mapped))
        failed = ctypes.CDLL(None).mincore(ctypes.byref(start), length, states)
        del start  # a map that is still referred to cannot be closed
    return 1.0 if failed else sum(state & 1 for state in states) / pages


if __name__ == "__main__":
    main()
