"""The ffmpeg child process: the only place of the package that starts one.

Input given by strangers is opened with `opening`: local files only and only self-contained
containers, so that a playlist, concat script or SDP under any name is refused by ffmpeg itself
and no second file or network address is ever opened. Every process is reaped before its function
returns, its generator is closed or an exception leaves.
"""

import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from infinitetalk.errors import Canceled, StorageFull
from infinitetalk.progress import Canceling

# One name of each demuxer; none of these opens other files by reference.
_CONTAINERS = "aac,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav"
_LOG_BYTES = 1 << 20  # the end of the log is kept
_LOOK_S = 0.1  # between two looks at whether work is still wanted


class FFmpegFailed(Exception):
    """ffmpeg ended with an error. `log` is private: callers translate it to a public error."""

    def __init__(self, log: str) -> None:
        super().__init__(log[-2000:])
        self.log = log


def opening(path: Path) -> list[str]:
    """Arguments that open an untrusted file as the next input."""
    # "file:" keeps a name such as "http:x" or "-y" a name.
    return [*allowing(_CONTAINERS), "-i", f"file:{path.absolute()}"]


def allowing(formats: str) -> list[str]:
    """Arguments that limit the next input to local bytes of these demuxers (comma separated)."""
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", formats]


def banner(path: Path) -> str | None:
    """What ffmpeg says of a file when it opens it, None when it cannot open it."""
    try:
        run(opening(path), log_level="info")
    except FFmpegFailed as failed:  # always: no output is named
        start = failed.log.find("Input #0, ")
        return failed.log[start:] if start >= 0 else None
    raise AssertionError("ffmpeg accepted a command without an output")


def run(arguments: Sequence[str], *, log_level: str = "error") -> bytes:
    """Run to the end and return standard output.

    Raises:
        FFmpegFailed: it ended with an error.
        StorageFull: it ended because the disk has no room.
    """
    with _running(arguments, log_level) as process:
        _stdin(process).close()
        return _stdout(process).read()


def work(arguments: Sequence[str], canceling: Canceling) -> None:
    """Run to the end, unless `canceling` says meanwhile that it is not worth it any more.

    Raises:
        FFmpegFailed: it ended with an error.
        StorageFull: it ended because the disk has no room.
        Canceled: `canceling` said so.
    """
    with _running(arguments) as process:
        _stdin(process).close()
        while True:
            try:
                process.wait(_LOOK_S)
                return
            except subprocess.TimeoutExpired:
                if canceling():
                    raise Canceled("ffmpeg was stopped.") from None


def count_frames(arguments: Sequence[str]) -> int:
    """How many video frames come out of an input, its mapping and its filters.

    Raises:
        FFmpegFailed: it ended with an error.
    """
    report = run([*arguments, "-fps_mode", "passthrough", "-progress", "pipe:1", "-f", "null", "-"])
    counts = [line for line in report.splitlines() if line.startswith(b"frame=")]
    return int(counts[-1].removeprefix(b"frame=")) if counts else 0


@contextmanager
def reading(arguments: Sequence[str]) -> Iterator[IO[bytes]]:
    """Standard output as a pipe; leaving the block before its end ends ffmpeg.

    Raises:
        FFmpegFailed: it ended with an error; all it wrote before was read then.
    """
    with _running(arguments) as process:
        _stdin(process).close()
        yield _stdout(process)


def feed(arguments: Sequence[str], blocks: Iterable[bytes | memoryview]) -> None:
    """Run with `blocks`, one after the other, as standard input.

    Raises:
        FFmpegFailed: it ended with an error.
        StorageFull: it ended because the disk has no room.
    """
    with _running(arguments) as process:
        for block in blocks:
            _stdin(process).write(block)


@contextmanager
def _running(
    arguments: Sequence[str], log_level: str = "error"
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is gone when the block is left, however it is left."""
    process = subprocess.Popen(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-nostdin", "-hide_banner", "-nostats", "-y", "-loglevel", log_level),
            *arguments,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    log = bytearray()
    assert process.stderr is not None
    reader = threading.Thread(target=_drain, args=(process.stderr, log), daemon=True)
    reader.start()
    ended = False
    try:
        yield process
        ended = _finish(process)
    except BrokenPipeError:  # it ended before it took everything: its log says why
        ended = process.wait() != 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        _close(process)
    if ended and process.returncode != 0:
        raise _failure(log.decode(errors="replace"))


def _finish(process: "subprocess.Popen[bytes]") -> bool:
    """Let it end by itself, unless output is left that nobody wants."""
    _stdin(process).close()
    if _stdout(process).read(1):
        return False
    process.wait()
    return True


def _drain(stderr: IO[bytes], log: bytearray) -> None:
    while line := stderr.readline(_LOG_BYTES):
        # Tags are indented; megabytes of them must not push the tracks out of the log.
        if not line.startswith(b"    ") or b"isplay" in line:
            log += line
            del log[:-_LOG_BYTES]


def _close(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        try:
            pipe.close()
        except BrokenPipeError:  # what was still buffered for a process that is gone
            continue


def _failure(log: str) -> Exception:
    if "No space left on device" in log:
        return StorageFull("The disk has no room for the result.")
    return FFmpegFailed(log)


def _stdin(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _stdout(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout
