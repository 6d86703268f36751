"""Draw one sheet of a finished video: frames, voice and mouth, colours, stages; or of a job.

A job is one of a server (its id, and --url) or a folder on this machine; of an unfinished one the
windows that are done are shown.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from infinitetalk.cli.fields import box
from infinitetalk.cli.server import add_server, api_key_of, headers_of
from infinitetalk.client.tasks import Client
from infinitetalk.errors import FileMissing, InvalidField, JobNotFinished, JobNotFound
from infinitetalk.jobfolder import JobFolder, watchable
from infinitetalk.media.publish import publishing
from infinitetalk.media.writer import count_frames, join

MAX_BOXES = 2
console = Console(stderr=True, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk report`."""
    add = parser.add_argument
    add("subject", metavar="JOB|VIDEO", help="a video, the folder of a job, or with --url its id")
    add("--output", type=Path, metavar="O.png", help="the sheet (default: NAME.report.png here)")
    add("--json", action="store_true", help="print the same as numbers")
    add(
        "--box",
        type=box,
        action="append",
        default=[],
        metavar="T,L,B,R",
        help="where a speaker's face is, in pixels of the video (default: in the middle)",
    )
    add_server(parser, required=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """What the sheet is of."""

    name: str
    video: Path
    stages: Mapping[str, float] | None = None  # seconds


def run(options: argparse.Namespace) -> int:
    """Measure, draw, and say where the sheet is."""
    from infinitetalk.report.measure import measure
    from infinitetalk.report.numbers import numbers_of
    from infinitetalk.report.sheet import draw_sheet

    output = _output(options)
    if len(options.box) > MAX_BOXES:
        raise InvalidField("--box: there are two speakers at most.", field="box")
    with tempfile.TemporaryDirectory() as scratch, console.status("Measuring ..."):
        subject = _subject(options, Path(scratch))
        measured = measure(subject.video, subject.name, options.box)
    numbers = numbers_of(measured, subject.stages)
    with publishing(output) as part:
        draw_sheet(measured, numbers).save(part, "PNG")
    if options.json:
        print(json.dumps(numbers.to_json(measured), indent=1))
    console.print(f"[bold green]{escape(str(output))}[/]")
    return 0


def _output(options: argparse.Namespace) -> Path:
    output: Path = options.output or Path(f"{Path(options.subject).name}.report.png")
    if output.suffix != ".png":
        raise InvalidField(f"--output must end in .png, not {output.name}.", field="output")
    if not output.parent.is_dir():
        raise InvalidField(f"There is no folder {output.parent}.", field="output")
    return output


def _subject(options: argparse.Namespace, scratch: Path) -> Subject:
    path = Path(options.subject)
    if options.url is not None:
        return _of_server(options, scratch)
    if path.is_dir():
        return _of_folder(JobFolder(path), scratch)
    if not path.is_file():
        raise FileMissing(f"There is no file or folder {path}; a job of a server needs --url.")
    return Subject(path.name, path)


def _of_server(options: argparse.Namespace, scratch: Path) -> Subject:
    headers, key = headers_of(options), api_key_of(options)
    with Client(options.url, headers=headers, api_key=key) as client:
        task = client.task(options.subject)
        video = task.download(scratch / "result.mp4")
        return Subject(f"job {task.id}", video, task.status().get("stages"))


def _of_folder(folder: JobFolder, scratch: Path) -> Subject:
    stages = _stages_in_store(folder)
    if folder.result.exists():
        return Subject(folder.root.name, folder.result, stages)
    windows = watchable(folder)
    if not windows:
        raise JobNotFinished(f"No window of {folder.root} is finished.")
    video = scratch / "windows.mp4"
    _join(folder, [folder.fragment(index) for index in range(windows)], video)
    return Subject(f"{folder.root.name}, {windows} windows so far", video, stages)


def _join(folder: JobFolder, fragments: Sequence[Path], target: Path) -> None:
    frames = sum(count_frames(fragment) for fragment in fragments)
    join(fragments, folder.encoded_sound, target, frames=frames, metadata={})


def _stages_in_store(folder: JobFolder) -> dict[str, float] | None:
    """Of a folder that is a service's, what its store knows."""
    from infinitetalk.jobs.database import Database
    from infinitetalk.jobs.store import SqliteJobStore

    path = folder.root.absolute().parent.parent / "jobs.db"
    if not path.exists():
        return None
    with closing(Database(path)) as database:
        try:
            usage = SqliteJobStore(database).get(folder.root.name).usage
            return {stage.value: seconds for stage, seconds in usage.stages.items()}
        except JobNotFound:
            return None
