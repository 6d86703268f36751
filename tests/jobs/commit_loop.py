"""A process that adds jobs until it is killed or its disk is full, and says which are committed.

    python -m tests.jobs.commit_loop FOLDER [BYTES]

BYTES: no file may grow larger; then it says how many of its jobs it can still read.
"""

import resource
import sys
from itertools import count
from pathlib import Path

from infinitetalk.errors import StorageFull
from infinitetalk.jobs.database import Database
from infinitetalk.jobs.store import SqliteJobStore
from tests.jobs.records import a_job


def main(folder: str, max_bytes: str = "") -> None:
    store = SqliteJobStore(Database(Path(folder) / "jobs.db"))
    if max_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_bytes), int(max_bytes)))
    try:
        for number in count():
            job = store.add(a_job(id=f"{number:032x}"), limit=sys.maxsize)
            print(job.id, flush=True)
    except StorageFull:
        print("full", len(store.find()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
