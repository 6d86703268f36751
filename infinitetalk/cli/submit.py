"""Have a running service render a video, or a table of them, and bring the results here.

Stopping to wait does not end a job: `--task` takes it up again. A table is a CSV file with a column
for each field and one named `output`; the same command once more goes on where it was.
"""

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from infinitetalk.cli.batch import AT_ONCE, Stop, run_batch
from infinitetalk.cli.fields import NAMES, add_fields, fields_of
from infinitetalk.cli.output import check_output
from infinitetalk.cli.results import results_beside
from infinitetalk.cli.server import add_server, api_key_of, headers_of
from infinitetalk.cli.sheet import MEDIA, read_rows
from infinitetalk.cli.task_bar import TaskBar
from infinitetalk.client.answers import failure
from infinitetalk.client.patience import Patience
from infinitetalk.client.tasks import Client, Status, Task
from infinitetalk.client.upload import is_url
from infinitetalk.errors import (
    InfiniteTalkError,
    InvalidField,
    JobExpired,
    JobNotFound,
)

PATIENCE_S = 120.0  # of pauses while a person looks on
TABLE_PATIENCE_S = 3600.0  # a queue may be full for long
HIDDEN = "..."

console = Console(stderr=True, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk submit`."""
    add_server(parser)
    add = parser.add_argument
    add("--image", metavar="P", help="picture or video of the speaker: a file or a URL")
    add("--audio", metavar="A", help="speech: a file or a URL")
    add("--audio-2", metavar="B", help="speech of a second speaker: a file or a URL")
    add("--output", type=Path, metavar="O.mp4", help="the video to write (default: ID.mp4 here)")
    add("--no-wait", action="store_true", help="hand the job in, print its id and leave")
    add("--task", metavar="ID", help="wait for a job that was handed in before")
    add("--csv", type=Path, metavar="FILE", help="one job a row; other options are for all rows")
    at_once = f"rows under way at the same time (default: {AT_ONCE})"
    add("--at-once", type=int, default=AT_ONCE, metavar="N", help=at_once)
    add("--preset", help="refused unless it is the one that the service runs")
    add_fields(parser)


def run(options: argparse.Namespace) -> int:
    """Hand in, wait, fetch, and say where the video is."""
    _check_together(options)
    return _run_one(options) if options.csv is None else _run_table(options)


def _run_one(options: argparse.Namespace) -> int:
    if options.output is not None:
        check_output(options.output, _files(options))
    with _connect(options, Patience(PATIENCE_S, on_wait=_say_waiting)) as client:
        with TaskBar(console) as bar:
            task = client.task(options.task) if options.task else _submit(client, options, bar)
        if options.no_wait:
            print(task.id)
            return 0
        output = options.output or Path(f"{task.id}.mp4")
        with _telling_how_to_go_on(options, task, output), TaskBar(console) as bar:
            status = _fetch(task, output, bar)
    if error := failure(status):
        raise error
    _tell(output, status)
    return 0


def _run_table(options: argparse.Namespace) -> int:
    media = {name: getattr(options, name) for name in MEDIA}
    shared = {**media, **fields_of(options)}
    rows = read_rows(options.csv, {k: v for k, v in shared.items() if v is not None})
    for row in rows:
        check_output(row.output, row.files)
    stop = Stop()
    patience = Patience(TABLE_PATIENCE_S, on_wait=_say_waiting, sleep=stop.pause)
    with _connect(options, patience) as client, results_beside(options.csv, rows) as results:
        return run_batch(client, rows, results, options.at_once, stop, console)


def _check_together(options: argparse.Namespace) -> None:
    if options.csv is not None:
        _refuse(options, "csv", ("task", "output", "no_wait"))
        if options.at_once < 1:
            raise InvalidField("--at-once must be at least 1.", field="at_once")
    elif options.task is not None:
        _refuse(options, "task", (*MEDIA, *NAMES, "box", "no_wait"))
    else:
        for name in ("image", "audio"):
            if getattr(options, name) is None:
                raise InvalidField(f"--{name} is missing.", field=name)


def _refuse(options: argparse.Namespace, given: str, others: Iterable[str]) -> None:
    for name in others:
        value = getattr(options, name)
        if value is not None and value is not False and value != []:  # 0 is a choice too
            option = name.replace("_", "-")
            raise InvalidField(f"--{given} takes no --{option} beside it.", field=name)


def _connect(options: argparse.Namespace, patience: Patience) -> Client:
    key = api_key_of(options)
    return Client(options.url, headers=headers_of(options), api_key=key, patience=patience)


def _submit(client: Client, options: argparse.Namespace, bar: TaskBar) -> Task:
    media = {name: getattr(options, name) for name in MEDIA}
    return client.submit(**media, on_upload=bar.uploading, **fields_of(options))


def _fetch(task: Task, output: Path, bar: TaskBar) -> Status:
    status = task.wait(on_status=bar.status)
    if status["status"] == "completed":
        task.download(output, on_bytes=bar.downloading)
    return status


def _files(options: argparse.Namespace) -> list[Path]:
    given = [getattr(options, name) for name in MEDIA]
    return [Path(source) for source in given if source is not None and not is_url(source)]


@contextmanager
def _telling_how_to_go_on(options: argparse.Namespace, task: Task, output: Path) -> Iterator[None]:
    try:
        yield
    except (JobNotFound, JobExpired):
        raise
    except BaseException:
        command = _command(options, task, output)
        console.print(f"Job {task.id} goes on without us. Fetch it with: {escape(command)}")
        raise


def _command(options: argparse.Namespace, task: Task, output: Path) -> str:
    """A command line of ours that can be pasted; what is secret must be filled in again."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "infinitetalk" else "infinitetalk"
    words = [program, "submit", "--url", options.url]
    for name, text in options.header:
        words += ["--header", f"{name}={_hidden(text)}"]
    if options.api_key is not None:
        words += ["--api-key", _hidden(options.api_key)]
    return shlex.join([*words, "--task", task.id, "--output", str(output)])


def _tell(output: Path, status: Status) -> None:
    spent = f", ${status['cost_usd']:.4f}" if status["cost_usd"] else ""
    console.print(
        f"[bold green]{escape(str(output))}[/]  {status['seconds']:.1f} s of video, made with the "
        f"preset {status['preset']} and the seed {status['seed']}{spent}."
    )


def _say_waiting(error: InfiniteTalkError, seconds: float) -> None:
    console.print(f"{escape(error.message)} ({error.code}) Trying again in {seconds:.0f} s.")


def _hidden(text: str) -> str:
    return text if text.startswith("@") else HIDDEN
