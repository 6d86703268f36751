"""Totals over all jobs that ever ended here; they only grow, whatever is deleted later."""

import sqlite3
from collections.abc import Iterator

from infinitetalk.jobs.database import Database
from infinitetalk.jobs.model import Job

Key = tuple[str, str]
"""(what, of which kind): ("jobs", "failed/audio_too_short"), ("stage_seconds", "denoising")."""


def count_ended(connection: sqlite3.Connection, job: Job) -> None:
    """Add a job that just ended to the totals, in the transaction that ends it."""
    connection.executemany(
        "INSERT INTO tallies (what, kind, total) VALUES (?, ?, ?) "
        "ON CONFLICT (what, kind) DO UPDATE SET total = total + excluded.total",
        list(amounts(job)),
    )


def tallies(database: Database) -> dict[Key, float]:
    """All totals."""
    rows = database.read("SELECT what, kind, total FROM tallies ORDER BY what, kind")
    return {(row["what"], row["kind"]): row["total"] for row in rows}


def amounts(job: Job) -> Iterator[tuple[str, str, float]]:
    """What a job that has ended adds to the totals: (what, of which kind, how much)."""
    code = f"/{job.error.code}" if job.error else ""
    yield "jobs", f"{job.status}{code}", 1
    yield "gpu_seconds", "", job.usage.gpu_seconds
    yield "cost_usd", "", job.usage.cost_usd
    for stage, seconds in job.usage.stages.items():
        yield "stage_seconds", stage, seconds
    if job.result is not None:
        yield "windows", "", job.result.windows
        yield "video_seconds", "", job.seconds
