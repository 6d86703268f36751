"""One video from the command line of `modal run`: this machine acts as the gateway for one job."""

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from infinitetalk.cli.output import check_output
from infinitetalk.cli.task_bar import TaskBar
from infinitetalk.config import Settings
from infinitetalk.errors import Canceled, FileMissing
from infinitetalk.fleet.gateway import stand_before
from infinitetalk.jobs.modal_host import ModalHost
from infinitetalk.jobs.model import Job, Status, new_id
from infinitetalk.media.publish import publishing
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.check import KINDS
from infinitetalk.serving.desk import Caller, Desk
from infinitetalk.serving.remote_intake import Ask

LOOK_S = 1.0
console = Console(stderr=True, highlight=False, soft_wrap=True)


def make_video(
    media: Mapping[str, str],
    fields: Mapping[str, object],
    output: Path,
    settings: Settings,
    host: ModalHost,
    ask: Ask,
    scratch: Path,
) -> None:
    """Hand in one job, show how it goes on, and fetch its video; Ctrl-C cancels it.

    Args:
        media: image, audio, audio_2 -> a file of this machine or a URL.

    Raises:
        InvalidInput: something is not what can be rendered.
        RenderFailed: the job failed; the error is the job's own.
        Canceled: somebody canceled it.
    """
    files = {name: Path(source) for name, source in media.items() if not _is_url(source)}
    urls = {f"{name}_url": source for name, source in media.items() if _is_url(source)}
    _check_files(files)
    check_output(output, list(files.values()))
    backend = Backend(settings)
    stand_before(backend, host, ask, scratch)
    backend.open()
    try:
        caller = Caller("", new_id())
        job = asyncio.run(backend.desk.submit_fields({**fields, **urls}, caller, files))
        ended = _wait(job, backend.desk)
        _fetch(ended, host, output)
    finally:
        backend.close()


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _check_files(files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if not path.is_file():
            raise FileMissing(f"There is no file {path}.", field=name)


def _wait(job: Job, desk: Desk) -> Job:
    caller = Caller(job.owner, job.request_id)
    console.print(f"job {job.id}")
    try:
        with TaskBar(console) as bar:
            while not job.status.is_terminal:
                time.sleep(LOOK_S)
                job = asyncio.run(desk.find(job.id, caller))
                bar.status(asyncio.run(desk.describe(job)))
    except KeyboardInterrupt:
        asyncio.run(desk.cancel(job))
        raise
    return job


def _fetch(job: Job, host: ModalHost, output: Path) -> None:
    if job.error is not None:
        raise KINDS[job.error.code](job.error.message, field=job.error.field)
    if job.status is not Status.COMPLETED:
        raise Canceled("The job was canceled.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with publishing(output) as part:
        shutil.copyfile(host.blobs.result(job), part)
    spent = f"{job.usage.gpu_seconds:.1f} GPU seconds, ${job.usage.cost_usd:.4f}"
    console.print(f"{output}: {job.seconds:.2f} s of video, {spent}")
