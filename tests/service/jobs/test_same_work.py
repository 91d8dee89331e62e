"""Two requests for the same work become one job, in every store."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from service.jobs.content import content_key
from service.jobs.errors import JobNotRetryableError
from service.jobs.ports import JobStore
from service.jobs.schema import Job, JobFilter, JobState, Lease
from service.jobs.texts import detach_texts
from service.jobs.work import CompressWork, JobDestination, JobSource, JobText
from srr_core.recipe import named_recipe
from tests.service.jobs.conftest import Clock
from tests.service.jobs.lifecycle import FATAL, RESULT, MakeJob, claimed, finished, held
from tests.service.submitting import compression

KEY = "a" * 64


def test_same_work_in_flight_or_done_gives_the_job_there_is(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(content_key=KEY))

    assert store.add(make_job(content_key=KEY)).id == first.id
    finished(store, first)
    again = store.add(make_job(content_key=KEY))

    assert (again.id, again.state) == (first.id, JobState.SUCCEEDED)
    assert len(store.list(JobFilter(), limit=10).jobs) == 1


def test_forced_or_other_work_is_another_job(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(content_key=KEY))

    others = [make_job(content_key=None), make_job(content_key="b" * 64), make_job(content_key=KEY, owner="bob")]

    assert [store.add(job).id for job in others] == [job.id for job in others]
    assert first.id not in {job.id for job in others}


def test_failed_or_canceled_work_is_done_anew(store: JobStore, make_job: MakeJob) -> None:
    failed = store.add(make_job(content_key=KEY))
    claimed(store, failed)
    store.fail(Lease(failed.id, 1, "w1"), FATAL)
    second = store.add(make_job(content_key=KEY))
    assert second.id != failed.id
    claimed(store, second)
    store.cancel(second.id)

    third = store.add(make_job(content_key=KEY))

    assert third.id not in {failed.id, second.id}
    with pytest.raises(JobNotRetryableError, match=third.id):
        store.retry(failed.id)


def test_a_canceled_job_that_is_retried_is_the_one_for_its_work_again(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(content_key=KEY))
    store.cancel(first.id)
    store.retry(first.id)

    assert store.add(make_job(content_key=KEY)).id == first.id
    assert len(store.list(JobFilter(), limit=10).jobs) == 1


def test_a_canceled_job_is_not_retried_beside_another_for_its_work(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(content_key=KEY))
    store.cancel(first.id)
    second = store.add(make_job(content_key=KEY))

    with pytest.raises(JobNotRetryableError, match=second.id):
        store.retry(first.id)


def test_a_commit_that_overtook_its_cancel_succeeds_beside_another_job_for_the_work(
    store: JobStore, make_job: MakeJob
) -> None:
    first = store.add(make_job(content_key=KEY))
    lease = held(store, first)
    store.publishing(lease)
    store.cancel(first.id)
    second = store.add(make_job(content_key=KEY))

    assert store.succeed(lease, result=RESULT, report={})
    assert store.add(make_job(content_key=KEY)).id == second.id


def test_key_of_a_request_that_was_attached_leads_to_the_same_job(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(content_key=KEY))
    other = store.add(make_job(), idempotency_key="other", request_digest="d")
    store.add(make_job(content_key=KEY), idempotency_key="k", request_digest="d")

    assert store.add(make_job(), idempotency_key="k", request_digest="d").id == first.id
    assert store.add(make_job(), idempotency_key="other", request_digest="d").id == other.id


def test_simultaneous_requests_become_one_job(store: JobStore, make_job: MakeJob) -> None:
    gate = threading.Barrier(6)
    jobs = [make_job(content_key=KEY) for _ in range(6)]
    given: list[str] = []

    def ask(job: Job) -> None:
        gate.wait()
        given.append(store.add(job).id)

    threads = [threading.Thread(target=ask, args=(job,)) for job in jobs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(given) == 6
    assert len(set(given)) == 1
    assert len(store.unsent()) == 1


def test_usage_counts_what_an_owner_has_and_used_lately(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    since = clock.now + timedelta(minutes=10)
    done, running, _ = (store.add(make_job(owner="alice")) for _ in range(3))
    store.add(make_job(owner="bob"))
    claimed(store, done)
    clock.now = since + timedelta(minutes=5)
    store.fail(Lease(done.id, 1, "w1"), FATAL)
    claimed(store, running)
    clock.advance(minutes=2)

    usage = store.usage("alice", since=since)

    assert (usage.queued, usage.running) == (1, 1)
    assert usage.running_seconds == pytest.approx(7 * 60)
    assert store.usage("nobody", since=since).queued == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.model_copy(update={"recipe": named_recipe("lqer")}),
        lambda s: s.model_copy(update={"destination": JobDestination(repo_id="c/other")}),
        lambda s: s.model_copy(update={"calibration": JobText(text="other")}),
        lambda s: s.model_copy(update={"evaluation": JobText(num_sequences=3)}),
        lambda s: s.model_copy(update={"source": JobSource(model_id="a/other")}),
    ],
    ids=["recipe", "destination", "calibration", "evaluation", "source"],
)
def test_content_key_changes_with_everything_a_result_follows_from(
    change: Callable[[CompressWork], CompressWork],
) -> None:
    work = compression(calibration=JobText(text="text"))

    def key(of: CompressWork, sha: str = "1", core: str = "0.1.0") -> str:
        detached, _ = detach_texts(of)
        return content_key(detached, source_sha=sha, core_version=core)

    assert key(work) == key(work.model_copy(update={"acknowledge_license": True}))
    assert len({key(work), key(change(work)), key(work, sha="2"), key(work, core="2")}) == 4
