"""How every job store moves a job from state to state, and who may move it."""

import threading
from datetime import timedelta

import pytest

from service.jobs.blame import MAX_GIVEN_BACK
from service.jobs.errors import (
    JobFinishedError,
    JobNotRetryableError,
    ReportNotReadyError,
)
from service.jobs.ports import JobStore
from service.jobs.schema import (
    JobState,
    Lease,
    SealedSecret,
)
from srr_core.recipe.stages import Stage
from tests.service.jobs.conftest import Clock
from tests.service.jobs.lifecycle import (
    CRASH,
    FATAL,
    FULL,
    LEASE,
    RESULT,
    RETRYABLE,
    MakeJob,
    claimed,
    failed,
    finished,
    held,
    states,
)


def test_second_delivery_is_ignored(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    running = claimed(store, job)

    assert running.state is JobState.RUNNING
    assert running.started_at is not None
    assert store.claim(job.id, 1, worker="w2", lasts=LEASE) is None
    assert store.claim(job.id, 2, worker="w2", lasts=LEASE) is None


def test_one_of_many_simultaneous_claims_wins(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    gate = threading.Barrier(8)
    won: list[str] = []

    def deliver(worker: str) -> None:
        gate.wait()
        if store.claim(job.id, 1, worker=worker, lasts=LEASE) is not None:
            won.append(worker)

    threads = [threading.Thread(target=deliver, args=(f"w{number}",)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(won) == 1
    assert store.renew(Lease(job.id, 1, won[0]), lasts=LEASE) is JobState.RUNNING


def test_whole_way_to_success(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)
    assert store.resolve_source(Lease(job.id, 1, "w1"), sha="a" * 40)
    assert store.progress(Lease(job.id, 1, "w1"), stage=Stage.COMPRESS, progress=0.5)
    assert store.publishing(Lease(job.id, 1, "w1"))
    assert store.succeed(Lease(job.id, 1, "w1"), result=RESULT, report={"layers": []})

    done = store.get(job.id)

    assert done.state is JobState.SUCCEEDED
    assert done.work.source.sha == "a" * 40
    assert done.result == RESULT
    assert done.progress == 1.0
    assert done.finished_at is not None
    assert store.report(job.id) == {"layers": []}
    assert states(store, job) == ["queued", "running", "publishing", "succeeded"]


def test_source_may_be_resolved_again_by_a_later_attempt(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)

    assert store.resolve_source(Lease(job.id, 1, "w1"), sha="a" * 40)
    assert store.resolve_source(Lease(job.id, 1, "w1"), sha="a" * 40)


def test_report_of_an_unfinished_job_is_not_ready(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())

    with pytest.raises(ReportNotReadyError):
        store.report(job.id)


def test_success_without_a_result_needs_no_publishing(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)

    assert store.succeed(Lease(job.id, 1, "w1"), result=None, report={"measurements": []})

    done = store.get(job.id)
    assert (done.state, done.result, done.has_report) == (JobState.SUCCEEDED, None, True)


def test_success_needs_publishing_first(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)

    assert not store.succeed(Lease(job.id, 1, "w1"), result=RESULT, report={})
    assert store.get(job.id).state is JobState.RUNNING
    assert not store.get(job.id).has_report


def test_worker_that_lost_its_lease_changes_nothing(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job())
    claimed(store, job)
    clock.advance(seconds=61)
    assert [lost.id for lost in store.reap()] == [job.id]
    claimed(store, job, attempt=2, worker="w2")
    before = store.get(job.id)

    assert store.renew(Lease(job.id, 1, "w1"), lasts=LEASE) is None
    assert not store.progress(Lease(job.id, 1, "w1"), stage=Stage.COMPRESS, progress=0.9)
    assert not store.resolve_source(Lease(job.id, 1, "w1"), sha="c" * 40)
    assert not store.publishing(Lease(job.id, 1, "w1"))
    assert not store.fail(Lease(job.id, 1, "w1"), FATAL)
    assert not store.requeue(Lease(job.id, 1, "w1"))
    assert store.append_event(Lease(job.id, 1, "w1"), "log", {}) is None
    assert not store.progress(Lease(job.id, 2, "w1"), stage=Stage.COMPRESS, progress=0.9)
    assert store.get(job.id) == before


def test_renewed_lease_is_not_reaped(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job())
    claimed(store, job)
    clock.advance(seconds=50)
    store.renew(Lease(job.id, 1, "w1"), lasts=LEASE)
    clock.advance(seconds=50)

    assert list(store.reap()) == []


def test_reaped_job_is_sent_again_at_once(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job())
    claimed(store, job)
    clock.advance(seconds=61)
    store.reap()

    assert [(message.job_id, message.attempt) for message in store.unsent()] == [(job.id, 2)]
    assert list(store.reap()) == []


def test_workers_that_die_cost_a_job_no_attempt(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job(max_attempts=1))
    for attempt in range(1, 6):
        claimed(store, job, attempt=attempt)
        clock.advance(seconds=61)
        store.reap()

    assert store.get(job.id).state is JobState.QUEUED
    assert [message.attempt for message in store.unsent()] == [6]
    assert failed(store, job, RETRYABLE).state is JobState.FAILED


def test_job_that_outlives_no_worker_at_all_fails_as_worker_lost(
    store: JobStore, make_job: MakeJob, clock: Clock
) -> None:
    job = store.add(make_job())
    for attempt in range(1, MAX_GIVEN_BACK + 2):
        claimed(store, job, attempt=attempt)
        clock.advance(seconds=61)
        store.reap()

    lost = store.get(job.id)
    assert lost.state is JobState.FAILED
    assert lost.failure is not None
    assert lost.failure.code == "worker_lost"


def test_a_worker_without_disk_costs_a_job_no_attempt(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job(max_attempts=1))

    waiting = failed(store, job, FULL)

    assert (waiting.state, waiting.failure) == (JobState.QUEUED, FULL)
    assert list(store.unsent()) == []  # not at once: the same worker would take it
    clock.advance(seconds=16)
    assert [message.attempt for message in store.unsent()] == [2]


def test_crashes_at_different_places_cost_a_job_no_attempt(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(max_attempts=1))
    for layer in range(5):
        assert failed(store, job, CRASH.model_copy(update={"message": f"at layer {layer}"})).state is JobState.QUEUED


def test_a_job_that_crashes_at_the_same_place_again_and_again_is_to_blame(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(max_attempts=10))
    failed(store, job, CRASH)
    failed(store, job, FULL)
    assert failed(store, job, CRASH).state is JobState.QUEUED

    assert failed(store, job, CRASH).state is JobState.FAILED


def test_what_an_explicit_retry_left_behind_is_forgotten(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    for _ in range(3):
        failed(store, job, CRASH)
    store.retry(job.id)

    assert failed(store, job, CRASH).state is JobState.QUEUED


def test_the_wait_grows_with_failures_that_count_only(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job())
    for _ in range(4):
        failed(store, job, FULL)

    failed(store, job, RETRYABLE)

    assert list(store.unsent()) == []
    clock.advance(seconds=16)
    assert len(store.unsent()) == 1


def test_retryable_failure_waits_and_then_fails_at_the_last_attempt(
    store: JobStore, make_job: MakeJob, clock: Clock
) -> None:
    job = store.add(make_job(max_attempts=2))
    claimed(store, job)
    assert store.fail(Lease(job.id, 1, "w1"), RETRYABLE)
    waiting = store.get(job.id)

    assert (waiting.state, waiting.attempt, waiting.failure) == (JobState.QUEUED, 2, RETRYABLE)
    assert list(store.unsent()) == []
    clock.advance(seconds=16)
    assert [message.attempt for message in store.unsent()] == [2]

    claimed(store, job, attempt=2)
    assert store.get(job.id).failure is None
    assert store.fail(Lease(job.id, 2, "w1"), RETRYABLE)
    assert store.get(job.id).state is JobState.FAILED


def test_fatal_failure_ends_the_job(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)

    assert store.fail(Lease(job.id, 1, "w1"), FATAL)
    assert store.get(job.id).failure == FATAL
    assert list(store.unsent()) == []


def test_interruption_leaves_as_many_attempts_as_there_were(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job(max_attempts=2))
    store.requeue(held(store, job))

    outcomes = []
    for _ in range(2):
        store.fail(held(store, store.get(job.id)), RETRYABLE)
        outcomes.append(store.get(job.id).state)
        clock.advance(hours=1)

    assert outcomes == [JobState.QUEUED, JobState.FAILED]


def test_interrupted_attempt_does_not_count(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(max_attempts=1))
    claimed(store, job)

    assert store.requeue(Lease(job.id, 1, "w1"))
    assert store.get(job.id).state is JobState.QUEUED
    claimed(store, job, attempt=2)
    store.fail(Lease(job.id, 2, "w1"), RETRYABLE)
    assert store.get(job.id).state is JobState.FAILED


def test_queued_job_is_canceled_at_once_and_never_sent(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())

    assert store.cancel(job.id).state is JobState.CANCELED
    assert list(store.unsent()) == []
    assert store.claim(job.id, 1, worker="w1", lasts=LEASE) is None
    with pytest.raises(JobFinishedError):
        store.cancel(job.id)


def test_running_job_is_canceled_through_its_worker(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)

    assert store.cancel(job.id).state is JobState.CANCELING
    assert store.cancel(job.id).state is JobState.CANCELING
    assert store.renew(Lease(job.id, 1, "w1"), lasts=LEASE) is JobState.CANCELING
    assert not store.publishing(Lease(job.id, 1, "w1"))
    assert store.canceled(Lease(job.id, 1, "w1"))
    assert states(store, job) == ["queued", "running", "canceling", "canceled"]


def test_cancel_that_comes_after_the_commit_ends_in_success(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)
    store.publishing(Lease(job.id, 1, "w1"))
    store.cancel(job.id)

    assert store.succeed(Lease(job.id, 1, "w1"), result=RESULT, report={})
    assert store.get(job.id).state is JobState.SUCCEEDED


def test_failure_while_canceling_is_a_cancel(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)
    store.cancel(job.id)

    assert store.fail(Lease(job.id, 1, "w1"), RETRYABLE)
    assert store.get(job.id).state is JobState.CANCELED


def test_canceling_job_of_a_lost_worker_is_canceled(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    job = store.add(make_job())
    claimed(store, job)
    store.cancel(job.id)
    clock.advance(seconds=61)
    store.reap()

    assert store.get(job.id).state is JobState.CANCELED


def test_failed_job_can_be_retried_past_its_attempts(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(max_attempts=1))
    claimed(store, job)
    store.fail(Lease(job.id, 1, "w1"), FATAL)

    again = store.retry(job.id)

    assert (again.state, again.attempt, again.failure) == (JobState.QUEUED, 2, None)
    assert [message.attempt for message in store.unsent()] == [2]
    assert store.claim(job.id, 2, worker="w1", lasts=LEASE) is not None


def test_only_an_ended_job_that_did_not_succeed_can_be_retried(store: JobStore, make_job: MakeJob) -> None:
    queued, succeeded = store.add(make_job()), store.add(make_job())
    finished(store, succeeded)

    with pytest.raises(JobNotRetryableError):
        store.retry(queued.id)
    with pytest.raises(JobNotRetryableError):
        store.retry(succeeded.id)


def test_token_goes_to_the_holder_only_and_ends_with_the_job(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    sealed = SealedSecret(ciphertext=b"sealed", expires_at=clock.now + timedelta(hours=1))
    job = store.add(make_job(), credential=sealed)

    assert store.credential(Lease(job.id, 1, "w1")) is None
    claimed(store, job)
    assert store.credential(Lease(job.id, 1, "w1")) == sealed
    assert store.credential(Lease(job.id, 1, "w2")) is None
    store.fail(Lease(job.id, 1, "w1"), RETRYABLE)
    clock.advance(seconds=20)
    claimed(store, job, attempt=2)
    assert store.credential(Lease(job.id, 2, "w1")) == sealed
    store.fail(Lease(job.id, 2, "w1"), FATAL)
    store.retry(job.id)
    claimed(store, job, attempt=3)
    assert store.credential(Lease(job.id, 3, "w1")) is None


def test_expired_token_is_not_given_out_and_is_forgotten(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    sealed = SealedSecret(ciphertext=b"sealed", expires_at=clock.now + timedelta(hours=1))
    job = store.add(make_job(), credential=sealed)
    clock.now = sealed.expires_at
    claimed(store, job)

    assert store.credential(Lease(job.id, 1, "w1")) is None
    assert store.forget_expired() == 1
