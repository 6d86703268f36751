"""One line of JSON for every job that ended: what it was, how it went, what it cost.

Never a prompt, a URL or a header: ids, counts and names of ours only.
"""

import json
import logging

from infinitetalk import __version__
from infinitetalk.jobs.model import Job

journal = logging.getLogger(__name__)


def open_journal() -> None:
    """Write the lines to standard error with nothing around them, whatever the server logs how."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    journal.handlers = [handler]
    journal.setLevel(logging.INFO)
    journal.propagate = False


def record(job: Job) -> None:
    """Write down how a job ended."""
    journal.info("%s", finished_line(job))


def finished_line(job: Job) -> str:
    """The line for a job in a terminal state."""
    ended = job.completed_at or job.created_at
    started = job.executed_at or ended
    event = {
        "event": "job.finished",
        "job_id": job.id,
        "request_id": job.request_id,
        "status": job.status,
        "code": job.error.code if job.error else None,
        "preset": job.spec.preset,
        "resolution": job.spec.resolution,
        "steps": job.spec.steps,
        "video_seconds": round(job.seconds, 2),
        "windows": job.result.windows if job.result else None,
        "attempt": job.attempt,
        "losses": job.losses,
        "waited_s": round(max(0.0, started - job.created_at), 3),
        "total_s": round(max(0.0, ended - job.created_at), 3),
        "stages_s": {stage: round(seconds, 3) for stage, seconds in job.usage.stages.items()},
        "gpu_seconds": round(job.usage.gpu_seconds, 3),
        "cost_usd": round(job.usage.cost_usd, 6),
        "attention": job.usage.attention,
        "fallback_windows": job.usage.fallback_windows,
        "gpu": job.usage.gpu,
        "version": __version__,
    }
    return json.dumps(event)
