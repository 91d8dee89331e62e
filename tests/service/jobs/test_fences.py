"""No write of a worker counts without the lease that is current: every fenced method against every wrong one."""

from collections.abc import Callable

import pytest

from service.jobs.ports import JobAttempts, JobStore
from service.jobs.schema import Job, Lease, SealedSecret
from srr_core.recipe.stages import Stage
from tests.service.jobs.conftest import Clock
from tests.service.jobs.lifecycle import FATAL, LEASE, RESULT, MakeJob, held

Write = Callable[[JobStore, Lease], object]

WRITES: dict[str, Write] = {
    "renew": lambda store, lease: store.renew(lease, lasts=LEASE),
    "progress": lambda store, lease: store.progress(lease, stage=Stage.COMPRESS, progress=0.5),
    "resolve_source": lambda store, lease: store.resolve_source(lease, sha="c" * 40),
    "credential": lambda store, lease: store.credential(lease),
    "append_event": lambda store, lease: store.append_event(lease, "log", {"message": "here"}),
    "publishing": lambda store, lease: store.publishing(lease),
    "succeed": lambda store, lease: store.succeed(lease, result=RESULT, report={"layers": []}),
    "fail": lambda store, lease: store.fail(lease, FATAL),
    "requeue": lambda store, lease: store.requeue(lease),
    "canceled": lambda store, lease: store.canceled(lease),
}
STEP_BEFORE: dict[str, Callable[[JobStore, Lease], object]] = {
    "succeed": lambda store, lease: store.publishing(lease),
    "canceled": lambda store, lease: store.cancel(lease.job_id),
}
"""What a job has to go through before a write is one of its next steps."""
WRONG = {
    "another worker": lambda lease: lease._replace(worker="w2"),
    "an earlier attempt": lambda lease: lease._replace(attempt=lease.attempt - 1),
    "a later attempt": lambda lease: lease._replace(attempt=lease.attempt + 1),
    "another job": lambda lease: lease._replace(job_id="job_" + "0" * 26),
}


@pytest.fixture
def lease(store: JobStore, make_job: MakeJob, clock: Clock) -> Lease:
    """The lease of a second attempt by the worker of the first, of a job with a token."""
    sealed = SealedSecret(ciphertext=b"sealed", expires_at=clock.now + 100 * LEASE)
    job = store.add(make_job(), credential=sealed)
    store.requeue(held(store, job))
    return held(store, store.get(job.id))


def test_the_table_has_every_method_that_takes_a_lease() -> None:
    assert set(WRITES) | {"claim"} == {name for name in vars(JobAttempts) if not name.startswith("_")}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("method", WRITES)
def test_a_write_without_the_current_lease_changes_nothing(
    store: JobStore, lease: Lease, method: str, wrong: str
) -> None:
    STEP_BEFORE.get(method, lambda *_: None)(store, lease)
    before, events = store.get(lease.job_id), store.events(lease.job_id)

    assert not WRITES[method](store, WRONG[wrong](lease))

    assert (store.get(lease.job_id), store.events(lease.job_id)) == (before, events)


@pytest.mark.parametrize("method", WRITES)
def test_a_write_under_the_current_lease_counts(store: JobStore, lease: Lease, method: str) -> None:
    STEP_BEFORE.get(method, lambda *_: None)(store, lease)

    assert WRITES[method](store, lease)


@pytest.mark.parametrize("method", WRITES)
def test_a_write_after_the_job_was_taken_up_again_changes_nothing(
    store: JobStore, lease: Lease, clock: Clock, method: str
) -> None:
    clock.advance(hours=1)
    store.reap()
    again = _taken_up(store, lease)
    before = store.get(lease.job_id)

    assert not WRITES[method](store, lease)

    assert (store.get(lease.job_id), again.attempt) == (before, lease.attempt + 1)


def _taken_up(store: JobStore, lease: Lease) -> Job:
    claim = store.claim(lease.job_id, lease.attempt + 1, worker=lease.worker, lasts=LEASE)
    assert claim is not None
    return claim.job
