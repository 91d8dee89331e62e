"""Submitting a job: check, seal the token, persist. Sending follows from what was persisted."""

import hashlib
from collections.abc import Callable
from datetime import datetime

import structlog

from service.jobs.credentials import CredentialVault, require_own_token
from service.jobs.errors import InvalidJobError
from service.jobs.hub_tokens import require_hub_token
from service.jobs.schema import Job, JobState, JobSubmission
from service.jobs.store import JobStore
from service.platform.clock import utc_now
from service.platform.ids import new_id
from service.platform.tracing import current_traceparent

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
    hub_token_expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    content_key: str | None = None,
    source_sha: str | None = None,
    force: bool = False,
    traceparent: str | None = None,
) -> Job:
    """Persist a job and wake the sender. Does not wait for the broker.

    Args:
        submission: A valid recipe and repositories, as far as that is known without the Hub.
        wake: Called once the job is committed; sends what the outbox holds, usually `Maintenance.wake`.
        hub_token: Kept sealed until the job ends; never in a message or a log.
        hub_token_expires_at: When it ends by itself, if that is known; a worker does not begin with it then.
        traceparent: Trace the job belongs to; the current one by default.
        idempotency_key: The same key and request of the same owner give the same job for a day.
        source_sha: Commit the revision was resolved to, if it was; the worker compresses that one.
        force: Whether the caller insists on another run; a part of the request that the key stands for.

    Raises:
        InvalidJobError: source and destination are the same, the key or the token is malformed, or the owner must bring
            a token.
        IdempotencyConflictError: the key came before with another request.
    """
    check_submission(submission, idempotency_key=idempotency_key, hub_token=hub_token)
    require_own_token(owner, hub_token)
    if hub_token is not None and vault is None:
        raise InvalidJobError("this service keeps no Hub tokens; use the one it was configured with")
    now = utc_now()
    job = Job(
        id=new_id("job"),
        state=JobState.QUEUED,
        **{name: getattr(submission, name) for name in JobSubmission.model_fields if name != "source"},
        source=submission.source.model_copy(update={"sha": source_sha}),
        brought_token=hub_token is not None,
        owner=owner,
        created_at=now,
        updated_at=now,
        content_key=content_key,
        traceparent=traceparent or current_traceparent(),
    )
    stored = store.add(
        job,
        idempotency_key=idempotency_key,
        request_digest=_request_digest(submission, force=force),
        credential=(
            vault.seal(hub_token, expires_at=hub_token_expires_at)
            if vault is not None and hub_token is not None
            else None
        ),
    )
    # The line that joins the ids: whoever has the request's, bound by the edge, finds the job.
    _log.info("job_submitted", job_id=stored.id, is_new=stored.id == job.id)
    wake()
    return stored


def replay(
    submission: JobSubmission, *, owner: str, store: JobStore, idempotency_key: str | None, force: bool = False
) -> Job | None:
    """Return the job that this request made when it came before, or None when it is new.

    Raises:
        IdempotencyConflictError: the key came before with another request.
    """
    if idempotency_key is None:
        return None
    return store.replayed(owner, idempotency_key, request_digest=_request_digest(submission, force=force))


def check_submission(
    submission: JobSubmission, *, idempotency_key: str | None = None, hub_token: str | None = None
) -> None:
    """Refuse what is wrong by itself, whatever the Hub says.

    Raises:
        InvalidJobError: source and destination are the same, or the key or the token is malformed.
    """
    if submission.source.model_id.lower() == submission.destination.repo_id.lower():
        raise InvalidJobError(
            f"destination {submission.destination.repo_id!r} is the source itself; name another repository"
        )
    if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidJobError(f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters")
    require_hub_token(hub_token)


def _request_digest(submission: JobSubmission, *, force: bool) -> str:
    # What came later is added only where it was asked for, so that keys of an earlier version replay.
    flags = {"force": force, "acknowledge_license": submission.acknowledge_license}
    said = submission.model_dump_json(exclude={"acknowledge_license"}) + "".join(sorted(filter(flags.get, flags)))
    return hashlib.sha256(said.encode()).hexdigest()
