"""Submitting a job: check, seal the token, persist. Sending follows from what was persisted."""

import hashlib
from collections.abc import Callable

import structlog

from service.jobs.credentials import CredentialVault
from service.jobs.errors import InvalidJobError
from service.jobs.ids import new_id
from service.jobs.policy import utc_now
from service.jobs.schema import Job, JobState, JobSubmission
from service.jobs.store import JobStore
from service.jobs.tracing import current_traceparent

_log = structlog.get_logger(__name__)
MAX_IDEMPOTENCY_KEY = 255
"""Characters. Source: Stripe's API, as in the IETF draft httpapi-idempotency-key."""


def submit(
    submission: JobSubmission,
    *,
    owner: str,
    store: JobStore,
    wake: Callable[[], None],
    vault: CredentialVault | None = None,
    hub_token: str | None = None,
    idempotency_key: str | None = None,
    content_key: str | None = None,
    traceparent: str | None = None,
) -> Job:
    """Persist a job and wake the sender. Does not wait for the broker.

    Args:
        submission: A valid recipe and repositories, as far as that is known without the Hub.
        wake: Called once the job is committed; sends what the outbox holds, usually `Maintenance.wake`.
        hub_token: Kept sealed until the job ends; never in a message or a log.
        traceparent: Trace the job belongs to; the current one by default.
        idempotency_key: The same key and request of the same owner give the same job for a day.

    Raises:
        InvalidJobError: source and destination are the same, or the key is too long.
        IdempotencyConflictError: the key came before with another request.
    """
    _check(submission, idempotency_key)
    if hub_token is not None and vault is None:
        raise InvalidJobError("this service keeps no Hub tokens; use the one it was configured with")
    now = utc_now()
    job = Job(
        id=new_id("job"),
        state=JobState.QUEUED,
        **{name: getattr(submission, name) for name in JobSubmission.model_fields},
        owner=owner,
        created_at=now,
        updated_at=now,
        content_key=content_key,
        traceparent=traceparent or current_traceparent(),
    )
    stored = store.add(
        job,
        idempotency_key=idempotency_key,
        request_digest=hashlib.sha256(submission.model_dump_json().encode()).hexdigest(),
        credential=vault.seal(hub_token) if vault is not None and hub_token is not None else None,
    )
    # The line that joins the ids: whoever has the request's, bound by the edge, finds the job.
    _log.info("job_submitted", job_id=stored.id, is_new=stored.id == job.id)
    wake()
    return stored


def _check(submission: JobSubmission, idempotency_key: str | None) -> None:
    if submission.source.model_id.lower() == submission.destination.repo_id.lower():
        raise InvalidJobError(
            f"destination {submission.destination.repo_id!r} is the source itself; name another repository"
        )
    if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidJobError(f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters")
