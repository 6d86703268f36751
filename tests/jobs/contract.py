"""What every store of jobs and every store of files must do, whatever is underneath.

A test class of a store inherits one of these and gives a `store` fixture.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from infinitetalk.errors import IdempotencyMismatch, JobExpired, JobNotFound, QueueFull
from infinitetalk.jobfolder import JobFolder
from infinitetalk.jobs.blobs import BlobStore
from infinitetalk.jobs.model import Job, Status, Usage, Video, cancel, complete, hand_back, start
from infinitetalk.jobs.retention import erased
from infinitetalk.jobs.store import JobStore
from infinitetalk.progress import Stage
from tests.jobs.records import ENOUGH, NOW, PROBLEM, STEP, VIDEO, a_job

USAGE = Usage(12.5, 0.25, {Stage.DENOISING: 12.0, Stage.WRITING: 0.5}, "sdpa", "L40S")
NASTY = ["\ud800", "a\x00b", "‮abc", "e\u0301" * 1000, "'; DROP TABLE jobs; --", "👩‍🚀", ""]
CALLERS = 50


def put(store: JobStore, job: Job, new: Job) -> Job:
    """Replace a record that must be there."""
    assert store.replace(job, new)
    return new


def leased(store: JobStore, job: Job | None = None) -> Job:
    """A job that runs."""
    job = job or store.add(a_job(), limit=ENOUGH)
    return put(store, job, start(job, "0", NOW))


def ended(store: JobStore, **fields: object) -> Job:
    """A job that was canceled while it waited."""
    job = store.add(a_job(**fields), limit=ENOUGH)
    return put(store, job, cancel(job, NOW))


class JobStoreContract:
    """Rows of jobs."""

    def test_a_record_comes_back_as_it_was(self, store: JobStore) -> None:
        job = a_job(
            owner="a key",
            request_id="r1",
            fingerprint="f",
            idempotency_key="k",
            retry_of="0" * 32,
            losses=2,
            progress=STEP,
            usage=USAGE,
            error=PROBLEM,
            result=VIDEO,
        )
        assert store.add(job, limit=ENOUGH) == job
        assert store.get(job.id) == job

    @pytest.mark.parametrize("text", NASTY)
    def test_no_text_breaks_the_store(self, store: JobStore, text: str) -> None:
        job = a_job(spec=replace(a_job().spec, prompt=text))
        store.add(job, limit=ENOUGH)
        assert store.get(job.id).spec.prompt == text

    def test_an_unknown_job_is_not_found(self, store: JobStore) -> None:
        with pytest.raises(JobNotFound):
            store.get("0" * 32)

    def test_one_key_and_one_request_is_one_job(self, store: JobStore) -> None:
        first = store.add(a_job(idempotency_key="k", fingerprint="f"), limit=ENOUGH)
        again = store.add(a_job(idempotency_key="k", fingerprint="f"), limit=ENOUGH)
        assert again == first
        assert store.find() == [first]

    def test_a_key_with_another_request_is_refused_and_nothing_is_kept(
        self, store: JobStore
    ) -> None:
        first = store.add(a_job(idempotency_key="k", fingerprint="f"), limit=ENOUGH)
        with pytest.raises(IdempotencyMismatch):
            store.add(a_job(idempotency_key="k", fingerprint="other"), limit=ENOUGH)
        assert store.find() == [first]

    def test_keys_of_different_owners_have_nothing_to_do_with_each_other(
        self, store: JobStore
    ) -> None:
        jobs = [a_job(idempotency_key="k", fingerprint=o, owner=o) for o in ("ann", "bob", "")]
        assert [store.add(job, limit=ENOUGH) for job in jobs] == jobs

    def test_requests_without_a_key_are_never_the_same(self, store: JobStore) -> None:
        jobs = [store.add(a_job(fingerprint="f"), limit=ENOUGH) for _ in range(2)]
        assert store.find() == jobs

    def test_a_key_gives_its_job_in_its_present_state(self, store: JobStore) -> None:
        known = ended(store, idempotency_key="k")
        assert store.add(a_job(idempotency_key="k"), limit=ENOUGH) == known

    def test_a_key_is_free_again_once_its_job_is_erased(self, store: JobStore) -> None:
        job = ended(store, idempotency_key="k", fingerprint="f")
        put(store, job, erased(job, NOW))
        again = a_job(idempotency_key="k", fingerprint="other")
        assert not store.has_key(again.owner, "k")
        assert store.add(again, limit=ENOUGH) == again

    def test_a_key_is_known_to_its_owner_only(self, store: JobStore) -> None:
        store.add(a_job(idempotency_key="k", owner="ann"), limit=ENOUGH)
        known = [
            store.has_key(owner, key) for owner, key in (("ann", "k"), ("ann", "x"), ("", "k"))
        ]
        assert known == [True, False, False]

    def test_a_full_queue_refuses_and_keeps_nothing(self, store: JobStore) -> None:
        waiting = [store.add(a_job(), limit=2) for _ in range(2)]
        with pytest.raises(QueueFull):
            store.add(a_job(), limit=2)
        assert store.find() == waiting

    def test_only_waiting_jobs_fill_the_queue(self, store: JobStore) -> None:
        leased(store)
        ended(store)
        store.add(a_job(), limit=1)
        with pytest.raises(QueueFull):
            store.add(a_job(), limit=1)

    def test_a_full_queue_still_knows_its_keys(self, store: JobStore) -> None:
        job = store.add(a_job(idempotency_key="k"), limit=1)
        assert store.add(a_job(idempotency_key="k"), limit=1) == job

    def test_fifty_callers_at_once_with_one_key_make_one_job(self, store: JobStore) -> None:
        barrier = Barrier(CALLERS)

        def call(job: Job) -> str:
            barrier.wait()
            return store.add(job, limit=ENOUGH).id

        jobs = [a_job(idempotency_key="k", fingerprint="f") for _ in range(CALLERS)]
        with ThreadPoolExecutor(CALLERS) as callers:
            answers = set(callers.map(call, jobs))
        assert answers == {job.id for job in store.find()}
        assert len(answers) == 1

    def test_of_fifty_who_change_a_job_at_once_one_succeeds(self, store: JobStore) -> None:
        job = store.add(a_job(), limit=ENOUGH)
        barrier = Barrier(CALLERS)

        def lease(worker: int) -> bool:
            barrier.wait()
            return store.replace(job, start(job, str(worker), NOW))

        with ThreadPoolExecutor(CALLERS) as workers:
            won = list(workers.map(lease, range(CALLERS)))
        assert won.count(True) == 1
        assert store.get(job.id).worker == str(won.index(True))

    def test_a_record_is_replaced_only_where_it_still_is(self, store: JobStore) -> None:
        """Stale by status, by attempt, by erasure, and never there."""
        waiting = store.add(a_job(), limit=ENOUGH)
        first = leased(store, waiting)
        assert not store.replace(waiting, cancel(waiting, NOW))
        back = put(store, first, hand_back(first))
        second = leased(store, back)
        assert not store.replace(first, complete(first, VIDEO, USAGE, NOW))
        done = put(store, second, complete(second, VIDEO, USAGE, NOW))
        gone = put(store, done, erased(done, NOW))
        assert not store.replace(done, replace(done, owner="thief"))
        assert not store.replace(a_job(), a_job())
        assert store.get(waiting.id) == gone

    def test_a_running_attempt_reports(self, store: JobStore) -> None:
        job = leased(store)
        assert store.report(job, STEP, USAGE)
        assert store.get(job.id) == replace(job, progress=STEP, usage=USAGE)

    @pytest.mark.parametrize("end", ["canceled", "leased again"])
    def test_an_attempt_that_is_over_reports_nothing(self, store: JobStore, end: str) -> None:
        job = leased(store)
        if end == "canceled":
            after = put(store, job, cancel(job, NOW))
        else:
            after = leased(store, put(store, job, hand_back(job)))
        assert not store.report(job, STEP, USAGE)
        assert store.get(job.id) == after

    def test_current_is_only_the_latest_record(self, store: JobStore) -> None:
        waiting = store.add(a_job(), limit=ENOUGH)
        first = leased(store, waiting)
        back = put(store, first, hand_back(first))
        second = leased(store, back)
        assert [store.is_current(job) for job in (waiting, first, back, second)] == [
            *(False, False, False, True)
        ]

    def test_jobs_are_found_by_state_and_owner_in_the_order_they_came(
        self, store: JobStore
    ) -> None:
        """Whatever their clock said."""
        mine = [store.add(a_job(owner="me", created_at=NOW - n), limit=ENOUGH) for n in range(3)]
        other = store.add(a_job(owner="you"), limit=ENOUGH)
        running = leased(store, mine[1])
        assert store.find() == [mine[0], running, mine[2], other]
        assert store.find(Status.PENDING, owner="me") == [mine[0], mine[2]]
        assert store.find(Status.PENDING, Status.IN_PROGRESS, owner="me") == [
            *(mine[0], running, mine[2])
        ]
        assert store.find(Status.FAILED) == []

    def test_the_newest_come_first_and_no_more_than_asked(self, store: JobStore) -> None:
        jobs = [ended(store) for _ in range(4)]
        assert store.recent(Status.CANCELED, 3) == [jobs[3], jobs[2], jobs[1]]
        assert store.recent(Status.FAILED, 3) == []

    def test_jobs_are_counted_by_state(self, store: JobStore) -> None:
        leased(store)
        for _ in range(2):
            ended(store)
        assert store.counts() == {
            Status.PENDING: 0,
            Status.IN_PROGRESS: 1,
            Status.COMPLETED: 0,
            Status.FAILED: 0,
            Status.CANCELED: 2,
        }

    def test_only_the_states_that_were_asked_for_are_counted(self, store: JobStore) -> None:
        leased(store)
        ended(store)
        assert store.counts(Status.IN_PROGRESS) == {Status.IN_PROGRESS: 1}
        assert store.counts(Status.CANCELED, Status.PENDING) == {
            Status.CANCELED: 1,
            Status.PENDING: 0,
        }

    def test_an_erased_job_is_a_tombstone_only(self, store: JobStore) -> None:
        job = ended(store)
        tombstone = put(store, job, erased(job, NOW))
        assert store.get(job.id) == tombstone
        assert (store.find(), store.recent(Status.CANCELED, 1)) == ([], [])
        assert set(store.counts().values()) == {0}

    def test_what_an_owner_spent_since_then_includes_erased_jobs(self, store: JobStore) -> None:
        for owner, created_at in (("me", NOW - 1), ("me", NOW), ("me", NOW + 1), ("you", NOW)):
            job = leased(store, store.add(a_job(owner=owner, created_at=created_at), limit=ENOUGH))
            store.report(job, STEP, USAGE)
        gone = put(store, job := store.find(owner="me")[2], cancel(job, NOW))
        put(store, gone, erased(gone, NOW))
        assert store.spent("me", NOW) == pytest.approx(2 * USAGE.cost_usd)
        assert store.spent("nobody", 0.0) == 0.0

    def test_tombstones_are_forgotten_after_their_time_and_nothing_else(
        self, store: JobStore
    ) -> None:
        old, young = (ended(store) for _ in range(2))
        kept = ended(store)
        put(store, old, erased(old, NOW - 1))
        put(store, young, erased(young, NOW))
        assert list(store.forget(NOW)) == [old.id]
        assert store.get(young.id).erased_at == NOW
        assert store.find() == [kept]
        with pytest.raises(JobNotFound):
            store.get(old.id)


FILES = ("input/scene.png", "input/speech_1.wav", "input/sound_1", "job.json", "lock")


def staged(folder: Path) -> JobFolder:
    """A filled folder, as intake leaves it."""
    job = JobFolder(folder / "job")
    for name in FILES:
        path = job.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    (job.root / "fragments").mkdir()
    return job


def files(folder: JobFolder) -> Sequence[str]:
    """Names of the files of a job."""
    paths = (path.relative_to(folder.root) for path in folder.root.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths)


class BlobStoreContract:
    """Files of jobs."""

    def adopted(self, store: BlobStore, job_id: str) -> JobFolder:
        with store.staging() as folder:
            store.adopt(staged(folder), job_id)
        return store.folder(job_id)

    def test_what_was_staged_becomes_the_jobs(self, store: BlobStore) -> None:
        folder = self.adopted(store, "a")
        assert files(folder) == sorted(FILES)
        assert (folder.root / "job.json").read_text() == "content of job.json"
        assert list(store.ids()) == ["a"]

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_what_was_not_adopted_is_gone(self, store: BlobStore, ends_well: bool) -> None:
        try:
            with store.staging() as folder:
                assert list(folder.iterdir()) == []
                staged(folder)
                if not ends_well:
                    raise KeyError
        except KeyError:
            pass
        assert not folder.exists()
        assert list(store.ids()) == []

    def test_an_erased_job_has_no_files_and_can_be_erased_again(self, store: BlobStore) -> None:
        self.adopted(store, "b")
        folder = self.adopted(store, "a")
        for _ in range(2):
            store.erase("a")
        assert not folder.root.exists()
        assert store.size_bytes("a") == 0
        assert list(store.ids()) == ["b"]

    def test_finished_windows_can_be_watched_as_soon_as_they_are_shared(
        self, store: BlobStore
    ) -> None:
        folder = self.adopted(store, "a")
        for count, number in ((0, 1), (0, 0), (3, 2)):  # the order of a job that started again
            folder.fragment(number).write_text(f"window {number}")
            if count:
                folder.encoded_sound.write_text("sound")
            store.publish("a")
            job = replace(a_job(id="a"), progress=replace(STEP, window=4))
            assert store.windows(job) == count
        pictures, sound = store.window(job, 1)
        assert (pictures.read_text(), sound.read_text()) == ("window 1", "sound")

    def test_windows_of_an_erased_job_are_gone(self, store: BlobStore) -> None:
        folder = self.adopted(store, "a")
        folder.fragment(0).write_text("a window")
        folder.encoded_sound.write_text("sound")
        store.publish("a")
        job = replace(a_job(id="a"), progress=replace(STEP, window=2))
        assert store.windows(job) == 1
        store.window(job, 0)
        store.erase("a")
        assert store.windows(job) == 0
        with pytest.raises(JobExpired):
            store.window(job, 0)

    def test_only_the_input_of_a_job_is_copied(self, store: BlobStore) -> None:
        source = self.adopted(store, "a")
        source.result.write_text("a video")
        source.fragment(0).write_text("a fragment")
        with store.staging() as folder:
            copy = JobFolder(folder / "job")
            store.copy_input("a", copy)
            store.adopt(copy, "b")
        store.erase("a")
        copy = store.folder("b")
        assert files(copy) == sorted(set(FILES) - {"lock"})
        assert (copy.root / "input/sound_1").read_text() == "content of input/sound_1"
        assert copy.fragment(0).parent.is_dir()

    def test_the_video_of_a_job_is_a_file_until_it_is_erased(self, store: BlobStore) -> None:
        folder = self.adopted(store, "a")
        folder.result.write_bytes(b"a video")
        store.publish("a")
        digest = hashlib.sha256(b"a video").hexdigest()
        done = replace(a_job(id="a"), result=Video(digest, 7, frames=1, windows=1))
        assert store.result(done).read_bytes() == b"a video"
        store.erase("a")
        with pytest.raises(JobExpired):
            store.result(done)

    def test_input_that_is_gone_cannot_be_copied(self, store: BlobStore) -> None:
        with store.staging() as folder, pytest.raises(JobExpired):
            store.copy_input("a", JobFolder(folder / "job"))

    def test_sizes_are_known(self, store: BlobStore) -> None:
        folder = self.adopted(store, "a")
        before, free = store.size_bytes("a"), store.free_bytes()
        folder.result.write_bytes(b"x" * 1_000_000)
        store.publish("a")
        assert store.size_bytes("a") - before == pytest.approx(1_000_000, rel=0.1)
        assert free > 0
