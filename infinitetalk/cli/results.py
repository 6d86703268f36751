"""What became of the rows of a table: FILE.results.csv, beside FILE.csv.

Rewritten whole with every change, so that at any moment a killed command can go on from it. A row
that was changed in the table counts as new.
"""

import csv
import fcntl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from infinitetalk.cli.sheet import Row
from infinitetalk.errors import InvalidField, JobBusy
from infinitetalk.media.publish import publishing

NEW = "new"
SUBMITTING = "submitting"  # it may have become a job; the key tells the service
COMPLETED = "completed"  # and the video is here


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row."""

    output: str
    status: str = NEW  # or SUBMITTING, or what the service calls it
    task_id: str = ""
    error: str = ""
    code: str = ""  # of the error
    key: str = ""  # the idempotency key
    row: str = ""  # the row's digest


class Results:
    """The file, in the order of the table, then what is no longer in it; threads may share it."""

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        self._path = path
        self._lock = threading.Lock()
        known = {result.output: result for result in _read(path)}
        self._results: dict[str, Result] = {}
        for row in rows:
            new = Result(row.name, row=row.digest)
            found = known.get(row.name, new)
            self._results[row.name] = found if found.row == row.digest else new
        for name, result in known.items():  # a row was deleted, its job may be under way
            self._results.setdefault(name, result)

    def of(self, row: Row) -> Result:
        return self._results[row.name]

    def put(self, row: Row, **changes: Any) -> None:
        """Keep what is new about a row."""
        with self._lock:
            self._results[row.name] = replace(self._results[row.name], **changes)
            self.save()

    def save(self) -> None:
        """Write the file."""
        names = [item.name for item in fields(Result)]
        with publishing(self._path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(map(asdict, self._results.values()))


@contextmanager
def results_beside(table: Path, rows: Sequence[Row]) -> Iterator[Results]:
    """The results of a table, for one command at a time.

    Raises:
        JobBusy: another command is at work on the table.
        InvalidField: the results cannot be written.
    """
    path = table.with_suffix(".results.csv")
    with table.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobBusy(f"Another command is at work on {table}.") from error
        try:
            results = Results(path, rows)
            results.save()
        except OSError as error:
            raise InvalidField(f"{path} cannot be written.", field="csv") from error
        yield results


def _read(path: Path) -> Iterator[Result]:
    if not path.exists():
        return
    names = [item.name for item in fields(Result)]
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            yield Result(**{name: cells.get(name) or "" for name in names})
