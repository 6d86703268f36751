"""A service and its jobs, as a script sees them."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from infinitetalk.client.answers import failure
from infinitetalk.client.connection import Connection, check_headers
from infinitetalk.client.download import Expected, download
from infinitetalk.client.patience import Patience
from infinitetalk.client.upload import OnBytes, Source, ignore_bytes, make_upload
from infinitetalk.errors import JobExpired, JobNotFinished, WaitTimeout

TIMEOUT_S = 60.0
INTAKE_S = 900.0  # before a submit is answered, the server fetches and checks the media
POLL_S = 1.0
ENDED = frozenset({"completed", "failed", "canceled"})

Status = dict[str, Any]
"""A job as the server describes it; the keys are in the documentation of its HTTP API."""

OnStatus = Callable[[Status], None]


def ignore_status(status: Status) -> None:
    """The `OnStatus` of those who do not want to know."""


class Client:
    """A running service.

    Args:
        url: where it is, such as http://localhost:3000.
        headers: go with every request, such as Modal-Key and Modal-Secret.
        api_key: one of the keys it was configured with.
        timeout_s: how long it may be silent.
        patience: how calls are repeated that may be.

    Raises:
        UrlInvalid: the URL names no server.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience: Patience | None = None,
    ) -> None:
        keyed = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._connection = Connection(
            url, {**(headers or {}), **keyed}, timeout_s, patience or Patience()
        )

    def submit(
        self,
        image: Source,
        audio: Source,
        audio_2: Source | None = None,
        *,
        idempotency_key: str | None = None,
        on_upload: OnBytes = ignore_bytes,
        **fields: object,
    ) -> "Task":
        """Hand a job in; with one key it is one job, however often and from wherever it is sent.

        Args:
            image, audio, audio_2: files, or http(s) URLs that the server fetches.
            idempotency_key: a new one by default, which covers the repetitions in here.
            on_upload: told of bytes of files as they leave.
            fields: prompt, seed and so on; what is None is left to the server.

        Raises:
            FileMissing: a file cannot be read.
            InvalidField: the key cannot be sent in a header.
            InfiniteTalkError: the server refuses it, or cannot be reached.
        """
        media = {"image": image, "audio": audio, "audio_2": audio_2}
        upload = make_upload(media, fields)
        key = idempotency_key or uuid.uuid4().hex
        check_headers({"Idempotency-Key": key})

        def send() -> Status:
            with upload.opened(on_upload) as body:
                headers = {"Idempotency-Key": key}
                return self._connection.ask_once(
                    "POST", "/generate/submit", headers=headers, timeout=INTAKE_S, **body
                )

        return self.task(self._connection.patience.insist(send)["task_id"])

    def task(self, task_id: str) -> "Task":
        """A job that was handed in before."""
        return Task(task_id, self._connection)

    def queue(self) -> Status:
        """How much there is to do."""
        return self._connection.ask("GET", "/v1/queue")

    def info(self) -> Status:
        """What is deployed there."""
        return self._connection.ask("GET", "/v1/info")

    def close(self) -> None:
        """Give the connections back; tasks of this client are of no use any more."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Task:
    """One job of a service. Every method raises what the server refuses with, as our errors."""

    id: str
    _connection: Connection = field(repr=False)

    def status(self) -> Status:
        """How it is now."""
        return self._connection.ask("GET", "/generate/status", params={"task_id": self.id})

    def wait(
        self,
        *,
        on_status: OnStatus = ignore_status,
        poll_s: float = POLL_S,
        timeout_s: float | None = None,
    ) -> Status:
        """Its last status, once it has ended in whatever way.

        Raises:
            WaitTimeout: that takes longer than `timeout_s`; the job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            status = self.status()
            on_status(status)
            if status["status"] in ENDED:
                return status
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"The job takes longer than {timeout_s:g} s; it goes on.")
            self._connection.patience.sleep(poll_s)

    def download(self, path: str | Path, *, on_bytes: OnBytes = ignore_bytes) -> Path:
        """Bring its video to `path`, checked; an earlier attempt is continued.

        Raises:
            InfiniteTalkError: why there is no video.
            ConnectionFailed, StorageFull: it does not get here; calling again continues.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.{self.id}.part")
        patience = self._connection.patience
        download(target, part, self._video(), self._read_from, patience, on_bytes)
        return target

    def cancel(self) -> Status:
        """End it; one that has ended stays as it is."""
        return self._connection.ask("PUT", "/generate/cancel", params={"task_id": self.id})

    def retry(self) -> "Task":
        """A new job with the same input.

        Sent only once: whether a call that was cut off made a job cannot be known.
        """
        query = {"task_id": self.id}
        answer = self._connection.ask_once("POST", "/generate/retry", params=query)
        return Task(answer["task_id"], self._connection)

    def erase(self) -> None:
        """Delete all there is of it on the server; nothing happens if that was done before."""
        try:
            self._connection.ask("DELETE", f"/v1/jobs/{self.id}")
        except JobExpired:
            return

    def _video(self) -> Expected:
        status = self.status()
        if status["video"] is not None:
            return Expected(status["video"]["sha256"], status["video"]["size_bytes"])
        raise failure(status) or JobNotFinished(f"task {self.id} is not completed yet")

    def _read_from(self, start: int) -> AbstractContextManager[httpx.Response]:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        query = {"task_id": self.id}
        return self._connection.exchange("GET", "/generate/get", params=query, headers=headers)
