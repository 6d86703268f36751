"""Totals over all jobs of the fleet that ever ended: those that are kept, and those forgotten.

    totals   ({(what, kind): millionths}, [id])   of forgotten jobs, and of which last, in `jobs`

Amounts are whole millionths, for those can be added up in any order: a total that fell by a
rounding error would look like a restart to whoever draws its rate.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import modal

from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.model import Job
from infinitetalk.jobs.tally import Key, amounts

ENTRY = "totals"
MILLION = 1_000_000
EndedJobs = Callable[[], Sequence[Job]]
"""Every job that has ended and is not forgotten, erased ones too."""


class Archive:
    """Totals of forgotten jobs. One process at a time writes it: the one that forgets."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, jobs: Sequence[Job]) -> None:
        """Count jobs that will be forgotten now.

        The same jobs may come again, after a kill in between: they are counted once.
        """
        totals, counted = self.read()
        totals.update(_millionths(job for job in jobs if job.id not in counted))
        self._table.put(ENTRY, (dict(totals), [job.id for job in jobs]))

    def read(self) -> tuple[Counter[Key], set[str]]:
        """Millionths, and the jobs counted last, which may not be forgotten yet."""
        totals, counted = self._table.get(ENTRY) or ({}, [])
        return Counter(totals), set(counted)


class ModalTallies:
    """All totals. They never fall for one who asks less often than `ended` jobs are looked at."""

    def __init__(self, jobs: modal.Dict, ended: EndedJobs) -> None:
        self._archive = Archive(Table(jobs))
        self._ended = ended

    def totals(self) -> dict[Key, float]:
        """By what and of which kind."""
        kept = self._ended()  # first: what is forgotten meanwhile is then among the counted
        totals, counted = self._archive.read()
        totals.update(_millionths(job for job in kept if job.id not in counted))
        return {key: total / MILLION for key, total in sorted(totals.items())}


def _millionths(jobs: Iterable[Job]) -> Counter[Key]:
    totals: Counter[Key] = Counter()
    for job in jobs:
        for what, kind, amount in amounts(job):
            totals[what, str(kind)] += round(amount * MILLION)
    return totals
