"""Media of strangers are opened in limited processes only; this is the service's end of them.

One `Sandbox` belongs to one service process. It keeps a warm fork server (`forkserver` tells what
runs there), starts another when that has died, and turns the answers into a length or an error. The
processes know neither the environment nor the secrets of this one.
"""

import asyncio
import json
import logging
import math
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
from anyio import CancelScope

from infinitetalk.config import Settings
from infinitetalk.errors import MediaUnreadable, NotReady
from infinitetalk.jobfolder import JobFolder
from infinitetalk.serving.check import Answer, Check, Limits, seconds_of
from infinitetalk.spec import GenerationSpec

CREATE_JOB = "infinitetalk.jobfolder:create_job"
FORK_SERVER = "infinitetalk.serving.forkserver"

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000
_SPEECH_BYTES_PER_S = 4 * 16000  # the largest file we make of a recording, see media.audio
_BYTES_PER_PIXEL = 4
_ATTEMPTS = 2  # a fork server may have died since it was last asked

# One thread in the fork server: forking with more is unsafe.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What checking the media of one job may cost."""

    wall_s: float = 60.0
    wall_s_per_megabyte: float = 1.0  # on top, for what was sent
    cores: float = float(os.cpu_count() or 1)  # seconds of CPU for each of these
    memory_bytes: int = 4 << 30
    open_files: int = 256


DEFAULT_LIMITS = SandboxLimits()


class Sandbox:
    """Checks and normalises media, a few jobs at once, in processes that may die.

    Args:
        work: "module:function" to be run instead of `create_job`, for tests of what can go wrong.
    """

    def __init__(
        self, settings: Settings, limits: SandboxLimits = DEFAULT_LIMITS, *, work: str = CREATE_JOB
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._work = work
        self._server: _Server | None = None
        self._turns = asyncio.Semaphore(os.cpu_count() or 1)

    def start(self) -> None:
        """Start the fork server, so that the first job does not wait for its imports."""
        self._running()

    def close(self) -> None:
        """End the fork server. Checks under way go on: who waits for them may be cancelled."""
        if self._server is not None:
            self._server.close()

    async def normalise(
        self, folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path]
    ) -> float:
        """Make a job folder out of untrusted files; seconds of speech that the video will show.

        However this ends, no process is left that would write into the folder; if it ends badly,
        the folder is gone.

        Raises:
            InvalidInput: as `create_job`; MediaUnreadable if the files crashed what read them, or
                took it too much time or memory.
            StorageFull: the disk has no room.
            NotReady: the processes cannot be started.
        """
        check = self._check(folder, spec, scene, voices)
        async with self._turns:
            return _seconds(await self._ask(check), check.limits)

    async def _ask(self, check: Check) -> Answer:
        for _ in range(_ATTEMPTS):
            server = self._running()
            if answer := await server.ask(check.to_json()):
                return json.loads(answer)
            server.close()
            check.folder.remove()
        raise NotReady("Media cannot be checked at the moment.", retry_after_s=10)

    def _running(self) -> "_Server":
        if self._server is None or not self._server.is_alive:
            self.close()
            self._server = _Server(self._work)
        return self._server

    def _check(
        self, folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path]
    ) -> Check:
        settings = self._settings
        return Check(
            folder=JobFolder(folder.root.absolute()),
            spec=spec,
            scene=scene.absolute(),
            voices=tuple(voice.absolute() for voice in voices),
            max_audio_seconds=settings.max_audio_seconds,
            max_image_megapixels=settings.max_image_megapixels,
            max_video_megapixels=settings.max_video_megapixels,
            limits=self._limits_for([scene, *voices]),
        )

    def _limits_for(self, files: Sequence[Path]) -> Limits:
        limits, settings = self._limits, self._settings
        megabytes = sum(path.stat().st_size for path in files) / _MEGABYTE
        wall_s = limits.wall_s + limits.wall_s_per_megabyte * megabytes
        largest = max(
            settings.max_file_megabytes * _MEGABYTE,
            settings.max_audio_seconds * _SPEECH_BYTES_PER_S,
            settings.max_image_megapixels * 1e6 * _BYTES_PER_PIXEL,
        )
        return Limits(
            wall_s=wall_s,
            cpu_s=math.ceil(wall_s * limits.cores),
            memory_bytes=limits.memory_bytes,
            file_bytes=math.ceil(largest) + _MEGABYTE,
            open_files=limits.open_files,
        )


class _Server:
    """A fork server and the socket by which it is reached."""

    def __init__(self, work: str) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", FORK_SERVER, work],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the service
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def ask(self, check: str) -> bytes:
        """The answer; empty if the server or the keeper of this check died."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            except OSError:
                ours.close()
                return b""
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(f"{check}\n".encode())
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            with CancelScope(shield=True):
                await _hang_up(reader, writer)

    def close(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell the keeper that nobody waits any more, and wait until it has ended its worker."""
    with suppress(OSError):
        writer.write_eof()
        await reader.read()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _environment() -> dict[str, str]:
    return {
        **_ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "IMAGEIO_FFMPEG_EXE": imageio_ffmpeg.get_ffmpeg_exe(),
    }


def _seconds(answer: Answer, limits: Limits) -> float:
    match answer:
        case {"ended": "timeout"}:
            raise MediaUnreadable(f"Reading the media took longer than {limits.wall_s:.0f} s.")
        case {"ended": "MemoryError"}:
            raise MediaUnreadable("Reading the media took too much memory.")
        case {"ended": ended}:
            log.warning("media.crashed", extra={"ended": ended})
            raise MediaUnreadable("The media crashed the process that read them.")
    return seconds_of(answer)
