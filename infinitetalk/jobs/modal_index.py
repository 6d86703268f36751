"""Which jobs there are, by whether they have ended: what a look at many jobs reads at once.

    open    <id>    (seq, revision, record)   of a job that has not ended
            <id>~   (attempt, record)         what the running attempt says of itself, its own entry
    ended   <id>    (seq, revision, record)   of a job that has, erased ones too

An index of the chains and not the truth: a process that is killed between two requests leaves it
behind by one revision, until `ModalJobStore.repair`. A job in both has ended, since the entry in
`ended` is written before the one in `open` is removed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from infinitetalk.errors import StoreCorrupt
from infinitetalk.jobs.modal_chain import Row
from infinitetalk.jobs.modal_table import Copy, Nanoseconds, Table
from infinitetalk.jobs.model import Job, Status, job_from_json, job_to_json

REPORT = "~"


class Index:
    """The Dicts `open` and `ended`, and copies of them that are a little old."""

    def __init__(
        self, open_: Table, ended: Table, clock: Nanoseconds, *, open_s: float, ended_s: float
    ) -> None:
        self._open = open_
        self._ended = ended
        self._open_copy = Copy(open_, _parse, open_s, clock)
        self._ended_copy = Copy(ended, _parse, ended_s, clock)

    def get(self, job_id: str) -> Row | None:
        """The row as it was noted last."""
        value = self._open.get(job_id) or self._ended.get(job_id)
        return value and _row(value)

    def open_rows(self) -> dict[str, Row]:
        """Jobs that have not ended, each with the last report of its running attempt."""
        before = self._open_copy.seen()
        entries = self._open_copy.read()
        if not before <= entries.keys() | self._ended_copy.seen():
            self._ended_copy.expire()  # what ended somewhere else must not be in neither of the two
        rows = {key: value for key, value in entries.items() if not key.endswith(REPORT)}
        return {key: _with_report(row, entries.get(key + REPORT)) for key, row in rows.items()}

    def ended_rows(self) -> dict[str, Row]:
        """Jobs that have ended, erased ones too."""
        return self._ended_copy.read()

    def expire(self) -> None:
        """Look at both Dicts themselves when next asked."""
        self._open_copy.expire()
        self._ended_copy.expire()

    def admit(self, row: Row) -> None:
        """Note a new job, unless somebody who was faster has noted more of it."""
        if self._open.create(row.job.id, _value(row)):
            self._open_copy.note(row.job.id, _value(row))

    def note(self, row: Row) -> None:
        """Put a new revision in the place of the one before."""
        job_id = row.job.id
        if not row.job.status.is_terminal:
            self._open.put(job_id, _value(row))
            self._open_copy.note(job_id, _value(row))
            return
        self._ended.put(job_id, _value(row))
        self._ended_copy.note(job_id, _value(row))
        self._drop_open(job_id, job_id + REPORT)

    def report(self, job: Job) -> None:
        """Keep the moment of a running attempt."""
        value = (job.attempt, job_to_json(job))
        self._open.put(job.id + REPORT, value)
        self._open_copy.note(job.id + REPORT, value)

    def reported(self, row: Row) -> Job:
        """The job with the last report of its running attempt."""
        if row.job.status is not Status.IN_PROGRESS:
            return row.job
        value = self._open.get(row.job.id + REPORT)
        return _with_report(row, value and _parse(value)).job

    def forget(self, job_id: str) -> None:
        """Remove an ended job."""
        self._ended.drop(job_id)
        self._ended_copy.drop(job_id)

    def tidy(self, exists: Callable[[str], bool]) -> None:
        """Remove from `open` what killed processes left there."""
        ended, entries = self._ended_copy.read(), self._open_copy.read()
        for key in entries:
            job_id = key.removesuffix(REPORT)
            if job_id in ended or job_id not in entries or not exists(job_id):
                self._drop_open(key)

    def _drop_open(self, *keys: str) -> None:
        for key in keys:
            self._open.drop(key)
            self._open_copy.drop(key)


def _with_report(row: Row, report: Row | None) -> Row:
    """A report belongs to one attempt, and is over with it."""
    job = row.job
    if report is None or job.status is not Status.IN_PROGRESS or report.job.attempt != job.attempt:
        return row
    return replace(row, job=replace(job, progress=report.job.progress, usage=report.job.usage))


def _value(row: Row) -> tuple[int, int, str]:
    return row.seq, row.revision, job_to_json(row.job)


def _parse(value: Any) -> Row:
    match value:
        case (int(), str(record)):  # a report has no place in any order
            return Row(job_from_json(record), 0, 0)
    return _row(value)


def _row(value: Any) -> Row:
    match value:
        case (int(seq), int(revision), str(record)):
            return Row(job_from_json(record), seq, revision)
    raise StoreCorrupt("The record of a job is damaged.")
