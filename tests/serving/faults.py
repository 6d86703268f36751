"""What a worker of the sandbox may run instead of `create_job`: things that go wrong.

The prompt says which; what a worker has to tell is written beside the scene. Imported in the
sandbox's processes.
"""

import errno
import json
import os
import resource
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import imageio_ffmpeg
import psutil

from infinitetalk import errors
from infinitetalk.config import Settings
from infinitetalk.jobfolder import JobFolder, create_job
from infinitetalk.spec import GenerationSpec

LIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "file": resource.RLIMIT_FSIZE,
    "files": resource.RLIMIT_NOFILE,
    "memory": resource.RLIMIT_AS,
}


def misbehave(
    folder: JobFolder,
    spec: GenerationSpec,
    scene: Path,
    voices: Sequence[Path],
    settings: Settings,
) -> None:
    """Leave something in the folder, and do what the prompt says."""
    folder.root.mkdir()
    (folder.root / "half").write_bytes(b"half of something")
    name, _, argument = spec.prompt.partition(" ")
    FAULTS[name](scene.parent, argument)
    (folder.root / "half").unlink()
    folder.root.rmdir()
    create_job(folder, spec, scene, voices, settings)


def hang(place: Path, argument: str) -> None:
    """With a child, as if ffmpeg met an endless file."""
    endless = ["-f", "lavfi", "-i", "anullsrc", "-f", "null", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "quiet", "-re", *endless]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    tell_family(place, str(child.pid))
    child.wait()


def wait(place: Path, argument: str) -> None:
    """Until the test says that it may go on."""
    tell_family(place, argument)
    while not (place / "go").exists():
        time.sleep(0.01)


def tell_family(place: Path, argument: str) -> None:
    """The numbers of the worker, its keeper, the fork server, and of a child."""
    keeper = os.getppid()
    numbers = [os.getpid(), keeper, psutil.Process(keeper).ppid(), int(argument or 0)]
    part = place / "family.part"
    part.write_text(json.dumps(numbers))
    part.replace(place / "family")


def report(place: Path, argument: str) -> None:
    """What a worker has of the process that started it."""
    limits = {name: resource.getrlimit(kind) for name, kind in LIMITS.items()}
    seen = {"environment": dict(os.environ), "descriptors": open_descriptors(), "limits": limits}
    (place / "report").write_text(json.dumps(seen))


def open_descriptors() -> list[str]:
    """What kind of thing each open descriptor is."""
    nothing = Path(os.devnull).stat().st_rdev
    kinds = {stat.S_IFCHR: "device", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    found = []
    for descriptor in range(256):
        with suppress(OSError):
            status = os.fstat(descriptor)
            kind = kinds.get(stat.S_IFMT(status.st_mode), "file")
            found.append("nothing" if status.st_rdev == nothing else kind)
    return found


def count(place: Path, argument: str) -> None:
    """How many work at the same time."""
    mine = place / f"working_{os.getpid()}"
    mine.touch()
    (place / f"seen_{os.getpid()}").write_text(str(len(list(place.glob("working_*")))))
    time.sleep(0.2)  # the work
    mine.unlink()


def refuse(place: Path, argument: str) -> None:
    raise getattr(errors, argument)("It is not good.", field="audio_2")


def fill_the_disk(place: Path, argument: str) -> None:
    with Path("/dev/full").open("wb") as file:
        file.write(b"x" * 100_000)


def exceed_the_quota(place: Path, argument: str) -> None:
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


def write_too_much(place: Path, argument: str) -> None:
    with (place / "large").open("wb") as file:
        for _ in range(1000):
            file.write(b"x" * 1_000_000)


def compute(place: Path, argument: str) -> None:
    while True:
        pass


def chatter(place: Path, argument: str) -> None:
    """Write to every descriptor, as code might that has taken the worker over."""
    for descriptor in range(3, 20):
        with suppress(OSError):
            os.write(descriptor, argument.encode())
    os._exit(0)


FAULTS: dict[str, Callable[[Path, str], object]] = {
    "abort": lambda place, argument: os.abort(),
    "exit": lambda place, argument: os._exit(0),
    "allocate": lambda place, argument: bytearray(10 << 30),
    "stumble": lambda place, argument: {}["a mistake of ours"],
    "behave": lambda place, argument: None,
    "hang": hang,
    "wait": wait,
    "family": tell_family,
    "report": report,
    "count": count,
    "refuse": refuse,
    "fill": fill_the_disk,
    "quota": exceed_the_quota,
    "write": write_too_much,
    "compute": compute,
    "chatter": chatter,
}
