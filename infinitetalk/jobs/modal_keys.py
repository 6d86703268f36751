"""Who has an idempotency key, in the Dict `jobs`.

    key:<hash>   id of the job that has it

An entry is never changed or removed, for two who freed and took a key at once would both have it.
Once its job is erased, the key's next job is written at a place that follows from that job; a
request with the key walks from the first place to the last one taken. Only hashes are stored:
nothing of an erased request stays. Modal drops these entries a week after they were last read.
"""

import hashlib
import json
from collections.abc import Callable

from infinitetalk.jobs.modal_table import Table
from infinitetalk.jobs.model import Job


class IdempotencyKeys:
    """The keys of all owners; `living` finds a job that is not erased."""

    def __init__(self, table: Table, living: Callable[[str], Job | None]) -> None:
        self._table = table
        self._living = living

    def holder(self, owner: str, key: str) -> Job | None:
        """The job that has the key."""
        place = _place(owner, key)
        while (job_id := self._table.get(place)) is not None:
            if (job := self._living(job_id)) is not None:
                return job
            place = _place(place, job_id)
        return None

    def claim(self, job: Job) -> Job:
        """Give a new job the key it asks for, if it asks; the job that has it then."""
        if job.idempotency_key is None:
            return job
        place = _place(job.owner, job.idempotency_key)
        while not self._table.create(place, job.id):
            job_id = self._table.get(place)
            if (holder := self._living(job_id)) is not None:
                return holder
            place = _place(place, job_id)
        return job


def _place(*names: str) -> str:
    return "key:" + hashlib.sha256(json.dumps(names).encode()).hexdigest()
