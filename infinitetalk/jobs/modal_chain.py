"""Records of jobs as chains of revisions: compare-and-set where entries can only be created.

    <id>#<n>   (writer, seq, record)   revision n of the job's record
               ()                      what revision n of a job said that was erased since

A revision is created once. Of all who want to change revision n, the one who creates n + 1 has
done so; the head is the revision after which there is none. Nothing is removed from a chain
before the job is forgotten, so that nobody can create a revision for the second time.
"""

import threading
from dataclasses import dataclass, replace

from infinitetalk.errors import StoreBusy, StoreCorrupt
from infinitetalk.jobs.modal_table import Nanoseconds, Table
from infinitetalk.jobs.model import Job, job_from_json, job_to_json, new_id

KNOWN = 4096  # heads that are remembered, to look for the next revision only
KNOWN_NS = 3600 * 10**9  # for so long: a job is not forgotten so soon after it was seen


@dataclass(frozen=True, slots=True)
class Row:
    """A job's record, in which revision."""

    job: Job
    seq: int  # the order in which jobs came, kept through all revisions
    revision: int


class Chains:
    """The chains of all jobs, in the Dict `jobs`."""

    def __init__(self, table: Table, clock: Nanoseconds) -> None:
        self._table = table
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Row, int]] = {}  # and when it was the head
        self._doubtful: dict[str, str] = {}  # who wrote what may have arrived, by entry

    def known(self, job_id: str) -> Row | None:
        """The head as it was when this process last saw it, if that is not long ago."""
        with self._lock:
            row, seen = self._known.get(job_id, (None, 0))
        return row if self._clock() - seen < KNOWN_NS else None

    def head(self, job_id: str, start: Row | None) -> Row | None:
        """The latest revision, sought from `start` or else from the first; None without a chain."""
        row, revision = start, start.revision if start else -1
        while (value := self._table.get(_name(job_id, revision + 1))) is not None:
            revision += 1
            row = _row(value, revision) if value else row
        if row is not None:
            self._remember(row)
        return row

    def begin(self, row: Row) -> None:
        """Write the first revision of a new job."""
        if not self._create(row):
            raise StoreCorrupt("The name of a new job is in use.")

    def append(self, head: Row, new: Job) -> Row | None:
        """Write the next revision; None when somebody else did."""
        row = replace(head, job=new, revision=head.revision + 1)
        return row if self._create(row) else None

    def blank(self, head: Row) -> None:
        """Delete what the revisions before the head said, and keep their places."""
        if head.revision:
            names = (_name(head.job.id, number) for number in range(head.revision))
            self._table.update(dict.fromkeys(names, ()))

    def drop(self, row: Row) -> None:
        """Remove the chain that ends here, the head last: after a kill it is dropped again."""
        for number in range(row.revision + 1):
            self._table.drop(_name(row.job.id, number))
        with self._lock:
            self._known.pop(row.job.id, None)

    def revisions(self) -> dict[str, int]:
        """The highest revision of every chain, with one request."""
        highest: dict[str, int] = {}
        for name in self._table.names():
            job_id, sign, number = name.rpartition("#")
            if sign:
                highest[job_id] = max(int(number), highest.get(job_id, 0))
        return highest

    def touch(self, row: Row) -> None:
        """Read a revision for the sake of having read it."""
        self._table.get(_name(row.job.id, row.revision))

    def _create(self, row: Row) -> bool:
        """Whether the entry is ours, also when an answer was lost and the request came twice."""
        name = _name(row.job.id, row.revision)
        writer = self._doubtful.pop(name, None) or new_id()
        value = (writer, row.seq, job_to_json(row.job))
        try:
            is_ours = self._table.create(name, value) or self._table.get(name) == value
        except StoreBusy:
            self._doubtful[name] = writer
            raise
        if is_ours:
            self._remember(row)
        return is_ours

    def _remember(self, row: Row) -> None:
        with self._lock:
            self._known.pop(row.job.id, None)
            if not row.job.status.is_terminal:  # what has ended may be forgotten by now
                self._known[row.job.id] = (row, self._clock())
            if len(self._known) > KNOWN:
                self._known.pop(next(iter(self._known)))


def _name(job_id: str, revision: int) -> str:
    return f"{job_id}#{revision}"


def _row(value: object, revision: int) -> Row:
    match value:
        case (str(), int(seq), str(record)):
            return Row(job_from_json(record), seq, revision)
    raise StoreCorrupt("The record of a job is damaged.")
