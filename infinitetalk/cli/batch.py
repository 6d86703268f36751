"""Many jobs at once: every row of a table is handed in, waited for and fetched.

A row that fails does not stop the others. What concerns them all does: a service that cannot be
reached or refuses us. Everything is written down as it happens, and nothing that is done is
repeated by the next command.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from infinitetalk.cli.results import COMPLETED, SUBMITTING, Result, Results
from infinitetalk.cli.sheet import Row
from infinitetalk.client.answers import failure, rebuilt
from infinitetalk.client.tasks import Client, Task
from infinitetalk.errors import (
    Canceled,
    InfiniteTalkError,
    JobExpired,
    JobNotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)

AT_ONCE = 8
POLL_S = 1.0
CONCERNS_ALL = (Canceled, Unavailable, Unauthenticated, Refused)
HANDED_IN = ("pending", "in_progress")


class Stop:
    """Ends the work of all threads soon, for the first reason that somebody has."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason: BaseException | None = None

    def because(self, reason: BaseException) -> None:
        if self.reason is None:
            self.reason = reason
        self._event.set()

    def pause(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Canceled: it is time to stop.
        """
        if self._event.wait(seconds):
            raise Canceled("Stopped before this row was done.")

    def check(self, done: int, total: int) -> None:
        """The same between two pieces of a transfer."""
        self.pause(0)


def run_batch(
    client: Client,
    rows: Sequence[Row],
    results: Results,
    at_once: int,
    stop: Stop,
    console: Console,
) -> int:
    """Bring every row to its end and return the exit code: that of the worst failure, or 0.

    Args:
        client: one whose patience sleeps by `stop`.
        at_once: rows under way at the same time.

    Raises:
        InfiniteTalkError: something that concerns all rows.
    """
    batch = _Batch(client, results, stop)
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(batch.run, row): row for row in rows}
        try:
            for number, future in enumerate(as_completed(running), 1):
                future.result()
                if stop.reason is None:
                    line = _line(results.of(running[future]))
                    console.print(f"{number} of {len(rows)}  {escape(line)}")
        except BaseException as error:  # Ctrl-C, or a mistake of ours
            stop.because(error)
            pool.shutdown(cancel_futures=True)
    if stop.reason is not None:
        console.print("Not all rows are done. The same command goes on with them.")
        raise stop.reason
    return _sum_up(rows, results, console)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the rows share."""

    client: Client
    results: Results
    stop: Stop

    def run(self, row: Row) -> None:
        """One row, from wherever an earlier command left it."""
        known = self.results.of(row)
        if known.status == COMPLETED and row.output.exists():
            return
        try:
            self.stop.pause(0)
            self._finish(row, self._task(row, known))
        except CONCERNS_ALL as error:
            self.stop.because(error)
        except InfiniteTalkError as error:
            self._fail(row, "failed", error)

    def _task(self, row: Row, known: Result) -> Task:
        if known.task_id and known.status in (*HANDED_IN, COMPLETED):
            task = self.client.task(known.task_id)
            if _is_there(task):
                return task
        # Written down before it is sent: if we are killed in between, it is the same job again.
        key = known.key if known.status == SUBMITTING else uuid.uuid4().hex
        self.results.put(row, status=SUBMITTING, key=key, task_id="", error="", code="")
        task = self.client.submit(
            **row.media, idempotency_key=key, on_upload=self.stop.check, **row.fields
        )
        self.results.put(row, status=HANDED_IN[0], task_id=task.id)
        return task

    def _finish(self, row: Row, task: Task) -> None:
        status = task.wait(poll_s=POLL_S)
        if error := failure(status):
            self._fail(row, status["status"], error)
            return
        task.download(row.output, on_bytes=self.stop.check)
        self.results.put(row, status=COMPLETED)

    def _fail(self, row: Row, status: str, error: InfiniteTalkError) -> None:
        self.results.put(row, status=status, error=error.message, code=error.code)


def _is_there(task: Task) -> bool:
    try:
        task.status()
    except (JobNotFound, JobExpired):
        return False
    return True


def _line(result: Result) -> str:
    why = f": {result.error} ({result.code})" if result.code else ""
    return f"{result.output} {result.status}{why}"


def _sum_up(rows: Sequence[Row], results: Results, console: Console) -> int:
    ended = [results.of(row) for row in rows]
    counts = Counter(result.status for result in ended)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + ".")
    codes = [result.code for result in ended if result.code]
    if codes:
        console.print("The same command tries again what failed.")
    return max((rebuilt(code, "", None).exit_code for code in codes), default=0)
