"""What every outbox must do, whatever is underneath.

A test class of an outbox inherits it. Its fixtures are `outbox`, the `store` of the jobs, and
`written`, which gives all that is kept of deliveries, as text.
"""

from collections.abc import Callable

import pytest

from infinitetalk.jobs.model import Job, cancel
from infinitetalk.jobs.outbox import BACKOFF_S, MAX_ATTEMPTS, Delivery, Kind, Outbox, State
from infinitetalk.jobs.store import JobStore
from tests.jobs.records import DAY_S, ENOUGH, NOW, a_job

URL = "https://example.com/hook?token=secret"


def end(store: JobStore, job: Job) -> None:
    assert store.replace(job, cancel(job, NOW))


def due(outbox: Outbox, now: float = NOW) -> list[tuple[str, Kind, str]]:
    return [(delivery.job_id, delivery.kind, delivery.url) for delivery in outbox.due(now)]


def only(outbox: Outbox, now: float) -> Delivery:
    (delivery,) = outbox.due(now)
    return delivery


class OutboxContract:
    """What is owed when a job ends."""

    @pytest.fixture
    def job(self, store: JobStore) -> Job:
        return store.add(a_job(), limit=ENOUGH)

    def test_nothing_is_due_before_the_job_has_ended(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        assert due(outbox, NOW + DAY_S) == []
        end(store, job)
        assert due(outbox) == [(job.id, Kind.WEBHOOK, URL)]

    def test_what_is_promised_for_no_job_is_never_due(self, outbox: Outbox) -> None:
        outbox.promise("0" * 32, Kind.WEBHOOK, URL)
        assert due(outbox) == []

    def test_a_promise_is_kept_once_however_often_it_is_given(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        end(store, job)
        for _ in range(2):
            outbox.promise(job.id, Kind.WEBHOOK, URL)
        outbox.delivered(only(outbox, NOW))
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        assert due(outbox) == []

    @pytest.mark.parametrize("arrives", [True, False])
    def test_a_webhook_waits_for_the_upload_of_its_job_and_not_of_others(
        self, outbox: Outbox, store: JobStore, job: Job, arrives: bool
    ) -> None:
        """Whether the upload succeeds or is given up."""
        other = store.add(a_job(), limit=ENOUGH)
        for name in (job, other):
            outbox.promise(name.id, Kind.WEBHOOK, URL)
            end(store, name)
        outbox.promise(job.id, Kind.UPLOAD, URL)
        upload, webhook = outbox.due(NOW)
        assert [(upload.job_id, upload.kind), (webhook.job_id, webhook.kind)] == [
            (job.id, Kind.UPLOAD),
            (other.id, Kind.WEBHOOK),
        ]
        if arrives:
            outbox.delivered(upload)
        else:
            outbox.failed(upload, NOW, is_final=True)
        assert {(name, kind) for name, kind, _ in due(outbox)} == {
            (job.id, Kind.WEBHOOK),
            (other.id, Kind.WEBHOOK),
        }

    def test_pauses_double_until_it_is_given_up(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        end(store, job)
        now, pause_s = NOW, BACKOFF_S
        for _ in range(MAX_ATTEMPTS - 1):
            outbox.failed(only(outbox, now), now)
            assert due(outbox, now + pause_s - 0.1) == []
            assert outbox.states(job.id) == {Kind.WEBHOOK: State.WAITING}
            now, pause_s = now + pause_s, 2 * pause_s
        assert 9 * 60 < now - NOW < 12 * 60
        outbox.failed(only(outbox, now), now)
        assert due(outbox, now + DAY_S) == []
        assert outbox.states(job.id) == {Kind.WEBHOOK: State.FAILED}

    def test_what_is_hopeless_is_given_up_at_once(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        end(store, job)
        outbox.failed(only(outbox, NOW), NOW, is_final=True)
        assert outbox.states(job.id) == {Kind.WEBHOOK: State.FAILED}

    def test_a_clock_that_is_turned_back_delays_nothing(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        end(store, job)
        outbox.failed(only(outbox, NOW), NOW)
        assert only(outbox, NOW - DAY_S).attempts == 1

    @pytest.mark.parametrize("ending", ["delivered", "given up", "forgotten"])
    def test_a_url_is_dropped_as_soon_as_it_is_not_needed(
        self, outbox: Outbox, store: JobStore, job: Job, written: Callable[[], str], ending: str
    ) -> None:
        """It may carry a secret."""
        outbox.promise(job.id, Kind.WEBHOOK, URL)
        end(store, job)
        assert URL in written()
        delivery = only(outbox, NOW)
        if ending == "delivered":
            outbox.delivered(delivery)
        elif ending == "given up":
            outbox.failed(delivery, NOW, is_final=True)
        else:
            outbox.forget([job.id])
        assert URL not in written()

    def test_only_the_deliveries_of_the_named_jobs_are_forgotten(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        other = store.add(a_job(), limit=ENOUGH)
        for name in (job, other):
            outbox.promise(name.id, Kind.UPLOAD, URL)
        outbox.forget([job.id])
        assert outbox.states(job.id) == {}
        assert outbox.states(other.id) == {Kind.UPLOAD: State.WAITING}

    def test_what_is_owed_for_no_job_is_orphaned(
        self, outbox: Outbox, store: JobStore, job: Job
    ) -> None:
        lost = "0" * 32
        for job_id in (job.id, lost):
            outbox.promise(job_id, Kind.WEBHOOK, URL)
        assert outbox.orphans() == {lost}
        end(store, job)
        assert outbox.orphans() == {lost}
