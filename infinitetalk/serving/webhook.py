"""Delivers what is owed for ended jobs: the video to `output_url`, the news to `callback_url`.

A webhook is a POST of the job's status as JSON, signed when the deployment has a secret:

    X-InfiniteTalk-Signature: t=<seconds>,v1=<hex of HMAC-SHA256(secret, "<seconds>." + body)>

It is repeated with growing pauses until the other side answers 2xx; a receiver may therefore see
one twice and tells them apart by `task_id`. URLs go through the same guard as those of inputs.
"""

import hashlib
import hmac
import json
import logging
from functools import partial

from anyio import to_thread

from infinitetalk.errors import (
    InfiniteTalkError,
    InvalidInput,
    JobExpired,
    JobNotFound,
    SourceUnreachable,
)
from infinitetalk.jobs.host import Host
from infinitetalk.jobs.model import Clock, Job
from infinitetalk.jobs.outbox import Delivery, Kind
from infinitetalk.serving.fetch import Fetcher
from infinitetalk.serving.status import describe

SIGNATURE = "X-InfiniteTalk-Signature"
_HOPELESS = (InvalidInput, JobExpired, JobNotFound)  # what no repetition mends
log = logging.getLogger(__name__)


class Courier:
    """Brings out one host's deliveries."""

    def __init__(self, host: Host, fetcher: Fetcher, secret: str | None, clock: Clock) -> None:
        self._host = host
        self._fetcher = fetcher
        self._secret = secret
        self._clock = clock

    async def deliver_due(self) -> int:
        """Try everything that is due once; how many were tried."""
        due = await to_thread.run_sync(self._host.outbox.due, self._clock())
        for delivery in due:
            await self._try(delivery)
        return len(due)

    async def _try(self, delivery: Delivery) -> None:
        try:
            status = await self._deliver(delivery)
        except InfiniteTalkError as error:
            hopeless = isinstance(error, _HOPELESS) and not isinstance(error, SourceUnreachable)
            await self._failed(delivery, is_final=hopeless)
            log.warning("%s of job %s: %s", delivery.kind, delivery.job_id, error.code)
            return
        if 200 <= status < 300:
            await to_thread.run_sync(self._host.outbox.delivered, delivery)
            return
        await self._failed(delivery, is_final=status == 410)
        log.warning("%s of job %s was answered with %d", delivery.kind, delivery.job_id, status)

    async def _failed(self, delivery: Delivery, *, is_final: bool) -> None:
        fail = partial(self._host.outbox.failed, delivery, self._clock(), is_final=is_final)
        await to_thread.run_sync(fail)

    async def _deliver(self, delivery: Delivery) -> int:
        job = await to_thread.run_sync(self._host.store.get, delivery.job_id)
        if delivery.kind is Kind.UPLOAD:
            return await self._upload(job, delivery.url)
        return await self._call(job, delivery.url)

    async def _upload(self, job: Job, url: str) -> int:
        if job.result is None:
            raise JobNotFound("There is no video to upload.")
        video = await to_thread.run_sync(self._host.blobs.result, job)
        return await self._fetcher.put(url, video, "video/mp4", field="output_url")

    async def _call(self, job: Job, url: str) -> int:
        others = await to_thread.run_sync(self._host.outbox.states, job.id)
        others.pop(Kind.WEBHOOK)  # which is this one
        status = describe(job, deliveries=others)
        body = json.dumps(status).encode()
        headers = {"content-type": "application/json"}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, body, int(self._clock()))
        return await self._fetcher.post(url, body, headers, field="callback_url")


def signature(secret: str, body: bytes, seconds: int) -> str:
    """The value of the signature header; receivers compute the same and compare."""
    signed = b"%d." % seconds + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
