"""What every job store promises, whatever it keeps jobs in."""

import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest

from service.jobs.errors import IdempotencyConflictError, JobNotFoundError, TextNotFoundError
from service.jobs.ports import JobStore
from service.jobs.schema import JobFilter, JobState, Lease, SealedSecret
from service.jobs.work import JobDestination, JobSource, JobText
from service.platform.errors import InvalidCursorError, UnstorableTextError
from service.platform.ids import new_id
from srr_core.recipe import named_recipe
from srr_core.recipe.stages import Stage
from tests.service.jobs.conftest import Clock
from tests.service.jobs.lifecycle import FATAL, MakeJob, claimed, held
from tests.service.submitting import submission, submitted


def test_added_job_comes_back_as_it_was(store: JobStore, make_job: MakeJob) -> None:
    job = make_job(tags=("nightly",), owner="alice")

    assert store.add(job) == job
    assert store.get(job.id) == job


def test_replay_finds_the_job_of_a_key_and_tells_another_request_apart(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(owner="alice"), idempotency_key="k", request_digest="d")

    assert store.replayed("alice", "k", request_digest="d") == job
    assert store.replayed("bob", "k", request_digest="d") is None
    assert store.replayed("alice", "other", request_digest="d") is None
    with pytest.raises(IdempotencyConflictError):
        store.replayed("alice", "k", request_digest="other")


def test_job_that_brought_a_token_needs_one_again_once_it_has_ended(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job(brought_token=True))
    store.cancel(job.id)

    assert not job.needs_hub_token
    assert store.get(job.id).needs_hub_token


def test_token_that_came_with_a_retry_is_remembered_as_the_jobs_own(
    store: JobStore, make_job: MakeJob, clock: Clock
) -> None:
    job = store.add(make_job())
    store.cancel(job.id)
    sealed = SealedSecret(ciphertext=b"x", expires_at=clock.now + timedelta(hours=1))

    assert store.retry(job.id, credential=sealed).brought_token
    assert store.get(job.id).brought_token


def test_unknown_job_is_reported_as_such(store: JobStore) -> None:
    with pytest.raises(JobNotFoundError):
        store.get(new_id("job"))
    with pytest.raises(JobNotFoundError):
        store.events(new_id("job"))
    with pytest.raises(JobNotFoundError):
        store.cancel(new_id("job"))


def test_text_is_kept_apart_and_read_back_exactly(store: JobStore) -> None:
    text = "café\x00 \U0001f600\r\n"
    wanted = submission(calibration=JobText(text=text), evaluation=JobText(text=text, num_sequences=4))
    job = submitted(store, wanted)
    submitted(store, submission(calibration=JobText(text=text)))

    stored = store.get(job.id)

    assert stored.work.calibration is not None
    assert stored.work.calibration.text is None
    assert stored.work.calibration.sha256 is not None
    assert store.text(stored.work.calibration.sha256) == text
    assert stored.work.evaluation == JobText(sha256=stored.work.calibration.sha256, num_sequences=4)


def test_unknown_text_is_reported_as_such(store: JobStore) -> None:
    with pytest.raises(TextNotFoundError):
        store.text("0" * 64)


def test_same_key_and_request_give_the_same_job(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(), idempotency_key="k", request_digest="d")

    again = store.add(make_job(), idempotency_key="k", request_digest="d")

    assert again == first
    assert len(store.list(JobFilter(), limit=10).jobs) == 1
    assert len(store.unsent()) == 1


def test_same_key_with_another_request_is_a_conflict(store: JobStore, make_job: MakeJob) -> None:
    store.add(make_job(), idempotency_key="k", request_digest="d")

    with pytest.raises(IdempotencyConflictError):
        store.add(make_job(), idempotency_key="k", request_digest="other")


def test_same_key_of_another_owner_is_another_job(store: JobStore, make_job: MakeJob) -> None:
    first = store.add(make_job(owner="alice"), idempotency_key="k", request_digest="d")

    assert store.add(make_job(owner="bob"), idempotency_key="k", request_digest="d").id != first.id


def test_key_is_free_again_after_a_day(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    first = store.add(make_job(), idempotency_key="k", request_digest="d")
    clock.advance(hours=25)

    assert store.forget_expired() == 1
    assert store.add(make_job(), idempotency_key="k", request_digest="other").id != first.id


def test_events_are_numbered_without_gaps_when_written_at_once(store: JobStore, make_job: MakeJob) -> None:
    lease = held(store, store.add(make_job()))
    gate = threading.Barrier(4)

    def write(writer: int) -> None:
        gate.wait()
        for number in range(10):
            store.append_event(lease, "log", {"writer": writer, "number": number})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert [event.sequence for event in store.events(lease.job_id)] == list(range(1, 43))


def test_events_continue_after_a_number(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)
    store.append_event(Lease(job.id, 1, "w1"), "layer", {"name": "q_proj", "output_error": 0.1})

    assert [event.sequence for event in store.events(job.id, after=1)] == [2, 3]
    assert store.events(job.id, after=2)[0].data == {"name": "q_proj", "output_error": 0.1}
    assert store.events(job.id, after=3) == ()
    assert [event.sequence for event in store.events(job.id, after=1, limit=1)] == [2]


def test_events_of_some_kinds_only(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    claimed(store, job)
    store.progress(Lease(job.id, 1, "w1"), stage=Stage.COMPRESS, progress=0.1)
    store.append_event(Lease(job.id, 1, "w1"), "layer", {"layer": "q_proj"})

    assert [event.kind for event in store.events(job.id, kinds=("state", "layer"))] == ["state", "state", "layer"]
    assert [event.sequence for event in store.events(job.id, after=2, kinds=("layer",))] == [4]


def test_list_is_newest_first_and_pages_without_gaps(store: JobStore, make_job: MakeJob) -> None:
    ids = [store.add(make_job(id=f"job_{number:026d}")).id for number in range(5)]

    first = store.list(JobFilter(), limit=2)
    second = store.list(JobFilter(), limit=2, cursor=first.next_cursor)
    third = store.list(JobFilter(), limit=2, cursor=second.next_cursor)

    assert [job.id for page in (first, second, third) for job in page.jobs] == ids[::-1]
    assert third.next_cursor is None


def test_list_with_a_foreign_cursor_is_refused(store: JobStore) -> None:
    with pytest.raises(InvalidCursorError):
        store.list(JobFilter(), limit=2, cursor="not-a-cursor")


@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(owner="alice"),
        JobFilter(states=(JobState.CANCELED,)),
        JobFilter(model_id="org/other"),
        JobFilter(destination="org/elsewhere"),
        JobFilter(recipe="lqer"),
        JobFilter(tag="nightly"),
    ],
    ids=lambda wanted: next(iter(wanted.model_fields_set)),
)
def test_list_keeps_only_what_matches(store: JobStore, make_job: MakeJob, wanted: JobFilter) -> None:
    store.add(make_job())
    match = store.add(
        make_job(
            owner="alice",
            source=JobSource(model_id="org/other"),
            destination=JobDestination(repo_id="org/elsewhere"),
            recipe=named_recipe("lqer"),
            tags=("nightly", "big"),
        )
    )
    store.cancel(match.id)

    assert [job.id for job in store.list(wanted, limit=10).jobs] == [match.id]


def test_list_by_time_includes_its_start_and_not_its_end(store: JobStore, make_job: MakeJob) -> None:
    jobs = [store.add(make_job()) for _ in range(3)]
    between = JobFilter(created_after=jobs[1].created_at, created_before=jobs[2].created_at)

    assert [job.id for job in store.list(between, limit=10).jobs] == [jobs[1].id]


def test_queue_position_counts_those_who_wait_longer(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    first = store.add(make_job())
    second = store.add(make_job())

    assert [store.queue_position(job.id) for job in (first, second)] == [0, 1]
    claimed(store, first)
    assert [store.queue_position(job.id) for job in (first, second)] == [None, 0]
    clock.advance(seconds=1)
    store.requeue(Lease(first.id, 1, "w1"))
    assert store.queue_position(first.id) == 1
    with pytest.raises(JobNotFoundError):
        store.queue_position(new_id("job"))


def test_a_job_waits_for_those_of_its_own_owner_only(store: JobStore, make_job: MakeJob) -> None:
    claimed(store, store.add(make_job(owner="bob")))
    first, second = (store.add(make_job(owner="alice", max_running=1)) for _ in range(2))
    lease = held(store, first)

    assert store.claim(second.id, 1, worker="w2", lasts=timedelta(minutes=1)) is None
    assert store.fail(lease, FATAL)
    claimed(store, second, worker="w2")


def test_sent_message_is_not_sent_twice(store: JobStore, make_job: MakeJob) -> None:
    jobs = [store.add(make_job()) for _ in range(3)]

    due = store.unsent(limit=2)
    store.mark_sent([message.id for message in due])

    assert [message.job_id for message in due] == [jobs[0].id, jobs[1].id]
    assert [message.job_id for message in store.unsent()] == [jobs[2].id]


def test_lost_message_of_a_job_that_still_waits_is_due_again(store: JobStore, make_job: MakeJob, clock: Clock) -> None:
    waiting, started = store.add(make_job()), store.add(make_job())
    store.mark_sent([message.id for message in store.unsent()])
    claimed(store, started)
    clock.advance(minutes=5)

    assert store.resend_lost(sent_before=clock.now - timedelta(minutes=10), in_broker=0) == 0
    assert store.resend_lost(sent_before=clock.now, in_broker=1) == 0
    assert store.resend_lost(sent_before=clock.now, in_broker=0) == 1
    assert [message.job_id for message in store.unsent()] == [waiting.id]


def test_only_as_many_messages_as_are_missing_are_due_again_the_oldest_first(
    store: JobStore, make_job: MakeJob, clock: Clock
) -> None:
    jobs = [store.add(make_job()) for _ in range(4)]
    store.mark_sent([message.id for message in store.unsent()])
    clock.advance(minutes=5)

    assert store.resend_lost(sent_before=clock.now, in_broker=2) == 2
    assert [message.job_id for message in store.unsent()] == [jobs[0].id, jobs[1].id]


def test_trace_of_the_request_travels_with_its_message(store: JobStore, make_job: MakeJob) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    store.add(make_job(traceparent=trace))

    assert store.unsent()[0].traceparent == trace


def test_ping_answers(store: JobStore) -> None:
    store.ping()


def test_times_at_the_ends_of_the_calendar_are_no_error(store: JobStore, make_job: MakeJob) -> None:
    job = store.add(make_job())
    first = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    last = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))

    assert store.list(JobFilter(created_before=first), limit=10).jobs == ()
    assert [one.id for one in store.list(JobFilter(created_after=first, created_before=last), limit=10).jobs] == [
        job.id
    ]


def test_a_text_the_database_cannot_keep_finds_nothing_or_is_refused(store: JobStore) -> None:
    with suppress(UnstorableTextError):
        assert store.list(JobFilter(tag="a\x00b"), limit=10).jobs == ()
