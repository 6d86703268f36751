"""What a client is told about a job: BentoML's keys, and ours beside them."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from infinitetalk.jobs.model import Job, Status
from infinitetalk.jobs.outbox import Kind, State
from infinitetalk.progress import Progress, Stage


def describe(
    job: Job,
    *,
    ahead: int | None = None,
    waiting_eta_s: float | None = None,
    deliveries: Mapping[Kind, State] | None = None,
) -> dict[str, Any]:
    """The status of a job as JSON.

    Args:
        ahead: jobs that run before a waiting one.
        waiting_eta_s: when a waiting job will probably be done.
    """
    progress = job.progress or Progress(Stage.PREPARING)
    is_running = job.status is Status.IN_PROGRESS
    eta_s = progress.eta_s if is_running else waiting_eta_s
    return {
        "task_id": job.id,
        "status": job.status,
        "created_at": _time(job.created_at),
        "executed_at": _time(job.executed_at),
        "completed_at": _time(job.completed_at),
        "stage": progress.stage if is_running else None,
        "progress": 1.0 if job.status is Status.COMPLETED else round(progress.fraction, 4),
        "window": progress.window,
        "windows": job.result.windows if job.result else progress.windows,
        "step": progress.step,
        "steps": job.spec.steps,
        "skipped_steps": progress.skipped_steps,
        "queue_position": None if ahead is None else ahead + 1,
        "eta_s": None if eta_s is None else round(eta_s, 1),
        "seconds": round(job.seconds, 2),
        "preset": job.spec.preset,
        "resolution": job.spec.resolution,
        "seed": job.spec.seed,
        "attention": job.usage.attention,
        "fallback_windows": job.usage.fallback_windows,
        "gpu_seconds": round(job.usage.gpu_seconds, 3),
        "stages": {stage: round(spent, 3) for stage, spent in job.usage.stages.items()},
        "cost_usd": round(job.usage.cost_usd, 6),
        "attempt": job.attempt,
        "retry_of": job.retry_of,
        "consent": job.consent,
        "error": asdict(job.error) if job.error else None,
        "video": asdict(job.result) if job.result else None,
        "deliveries": dict(deliveries or {}),
    }


def _time(seconds: float | None) -> str | None:
    """BentoML's form: UTC without a zone."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat("T", "milliseconds")
