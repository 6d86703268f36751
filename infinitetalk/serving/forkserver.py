"""The processes in which untrusted files are opened; `sandbox` starts the first and asks it.

    service      holds a socket to the fork server, and one to the keeper of every check
    fork server  has imported everything already; one thread, opens no media
    keeper       one for each check: holds its deadline, ends it, reaps it, answers
    worker       opens the media: limited, in a process group of its own together with its ffmpeg

Each ends when the one above is gone, however that one died: the socket between them closes, and a
worker is sent a signal (where there is Linux; elsewhere its limit of CPU time ends it).

Run as `python -m infinitetalk.serving.forkserver MODULE:FUNCTION`, with the socket as standard
input. The function has the signature of `jobfolder.create_job`, the one that a service runs.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from infinitetalk.config import Settings
from infinitetalk.errors import InfiniteTalkError, StorageFull
from infinitetalk.jobfolder import JobFolder
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile, combine_speakers
from infinitetalk.media.publish import NO_ROOM
from infinitetalk.media.resample import resample
from infinitetalk.serving.check import (
    CRASHED,
    TIMED_OUT,
    Answer,
    Check,
    Limits,
    answer_of,
    read_answer,
)
from infinitetalk.spec import GenerationSpec

Work = Callable[[JobFolder, GenerationSpec, Path, Sequence[Path], Settings], object]

_MAX_ANSWER_BYTES = 1 << 16
_NO_ROOM = StorageFull("The disk has no room for the job.")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(work_name: str) -> None:
    """Fork a keeper for every caller that comes through standard input, until that is closed."""
    work = _find(work_name)
    _warm_up()
    _leave_reaping_to_the_kernel()
    with socket.socket(fileno=os.dup(0)) as control:
        _silence(0)
        while (caller := _next_caller(control)) is not None:
            with caller:
                if os.fork() == 0:
                    control.close()
                    _keep(caller, work)


def _find(name: str) -> Work:
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    return work


def _warm_up() -> None:
    """What is loaded at its first use, so that no worker has to."""
    list(resample([np.zeros(44100, np.float32)], 44100))
    Image.init()


def _leave_reaping_to_the_kernel() -> None:
    """Neither keepers nor what a killed worker leaves behind may stay as zombies.

    Without the second, process 1 would inherit them, and in a container that may be a server that
    never asks for them.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _next_caller(control: socket.socket) -> socket.socket | None:
    _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def _keep(caller: socket.socket, work: Work) -> NoReturn:
    """Let a worker do one check, and answer when nothing of it is left but its folder."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with caller.makefile() as lines:
            check = Check.from_json(lines.readline())
        reading, writing = os.pipe()
        worker = os.fork()
        if worker == 0:
            caller.close()
            os.close(reading)
            _work(check, work, writing)
        os.close(writing)
        _lead_own_group(worker)
        answer = _await_answer(caller, reading, check.limits.wall_s)
        _end(worker)
        if "seconds" not in answer:
            check.folder.remove()
        caller.sendall(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _await_answer(caller: socket.socket, reading: int, wall_s: float) -> Answer:
    """What the worker answers, unless its time is up or nobody waits for it any more."""
    deadline = time.monotonic() + wall_s
    answer = b""
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([caller.fileno(), reading], [], [], left_s)
        if not ready:
            return TIMED_OUT
        if caller.fileno() in ready:  # nothing more is ever sent: it hung up
            return CRASHED
        answer += (piece := os.read(reading, _MAX_ANSWER_BYTES))
        if not piece or len(answer) > _MAX_ANSWER_BYTES:
            return read_answer(answer)


def _end(worker: int) -> None:
    """Kill the whole group; its leader is reaped only then, so the number is nobody else's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def _work(check: Check, work: Work, writing: int) -> NoReturn:
    """Do the check within its limits and write the answer; a crash is the lack of one."""
    try:
        _lead_own_group(0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it reads nothing that could tell it
        _silence(1, 2)
        _limit(check.limits)
        os.write(writing, json.dumps(_answer(check, work)).encode())
    finally:
        os._exit(0)


def _lead_own_group(process: int) -> None:
    # Called by the keeper and by the worker, because either may be first.
    with contextlib.suppress(OSError):
        os.setpgid(process, process)


def _silence(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


def _limit(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_AS, limits.memory_bytes),
    ):
        if kind == resource.RLIMIT_AS and sys.platform == "darwin":  # refused there
            continue
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def _answer(check: Check, work: Work) -> Answer:
    try:
        work(check.folder, check.spec, check.scene, check.voices, check.settings)
        return {"seconds": _speech_seconds(check.folder, check.spec)}
    except InfiniteTalkError as error:
        is_our_folder = error.field == "output"  # which the caller knows nothing of
        return answer_of(_NO_ROOM if is_our_folder else error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return answer_of(_NO_ROOM)
        return {"ended": type(error).__name__}


def _speech_seconds(folder: JobFolder, spec: GenerationSpec) -> float:
    """How much of the speech the video will show."""
    voices = [folder.speech(speaker) for speaker in folder.speakers]
    if len(voices) == 2:
        samples = combine_speakers(voices[0], voices[1], spec.order)[0].samples
    else:
        with SpeechFile(voices[0]) as voice:
            samples = voice.samples
    seconds = samples / SPEECH_RATE
    return seconds if spec.max_seconds is None else min(seconds, float(spec.max_seconds))


if __name__ == "__main__":
    main(sys.argv[1])
