"""Steps in the life of a job that many tests take."""

from collections.abc import Callable
from datetime import timedelta

from service.jobs.ports import JobStore
from service.jobs.schema import (
    Job,
    JobFailure,
    JobResult,
    Lease,
)

LEASE = timedelta(seconds=60)
RESULT = JobResult(repo_id="org/model-srr", commit_sha="b" * 40, commit_url="https://hub/org/model-srr/commit/b")
RETRYABLE = JobFailure(code="hub_unavailable", message="The Hub does not answer.", retryable=True)
CRASH = JobFailure(code="worker_crashed", message="The process of the job was killed at layer 3.", retryable=True)
FULL = JobFailure(code="storage_exhausted", message="The worker ran out of disk space.", retryable=True)
FATAL = JobFailure(code="unsupported_model", message="No such architecture.")
MakeJob = Callable[..., Job]


def claimed(store: JobStore, job: Job, *, attempt: int = 1, worker: str = "w1") -> Job:
    claim = store.claim(job.id, attempt, worker=worker, lasts=LEASE)
    assert claim is not None
    assert claim.lease == Lease(job.id, attempt, worker)
    return claim.job


def held(store: JobStore, job: Job, *, worker: str = "w1") -> Lease:
    """Return the lease of a job that a worker has claimed just now."""
    claim = store.claim(job.id, job.attempt, worker=worker, lasts=LEASE)
    assert claim is not None
    return claim.lease


def finished(store: JobStore, job: Job) -> None:
    claimed(store, job)
    assert store.publishing(Lease(job.id, 1, "w1"))
    assert store.succeed(Lease(job.id, 1, "w1"), result=RESULT, report={"schema_version": 1})


def failed(store: JobStore, job: Job, failure: JobFailure) -> Job:
    """Let the next attempt of a job fail and return what became of the job."""
    assert store.fail(held(store, store.get(job.id)), failure)
    return store.get(job.id)


def states(store: JobStore, job: Job) -> list[str]:
    return [event.data["state"] for event in store.events(job.id) if event.kind == "state"]
