"""Submitting a job, the same way from REST and from the form: replay, quota, preflight, then the queue."""

from datetime import datetime

from service.api.callers import Caller
from service.api.dependencies import Services
from service.api.preflight import examine
from service.api.refusal import refuse
from service.jobs.content import content_key
from service.jobs.schema import Job, JobSubmission
from service.jobs.submit import check_submission, replay, submit


def submit_checked(
    submission: JobSubmission,
    services: Services,
    caller: Caller,
    *,
    hub_token: str | None = None,
    hub_token_expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    force: bool = False,
) -> Job:
    """Queue a job that nothing is known to stand in the way of, or return the one that does the same.

    A hub that does not answer refuses nothing: the worker checks again before it downloads.

    Raises:
        HubError, SrrError, JobError: the first obstacle; its cause names all of them.
        QuotaExceededError: the caller has used up what they may have.
    """
    check_submission(submission, idempotency_key=idempotency_key, hub_token=hub_token)
    before = replay(submission, owner=caller.owner, store=services.store, idempotency_key=idempotency_key, force=force)
    if before is not None:
        return before
    caller.require_room(services.store)
    found = examine(submission, services.hubs, services.fleet, token=hub_token)
    refuse(found.obstacles)
    sha = found.model.sha if found.model is not None else None
    known = sha or services.hubs.known_sha(submission.source.model_id, submission.source.revision)
    same = content_key(submission, source_sha=known, core_version=services.core_version) if known else None
    return submit(
        submission,
        owner=caller.owner,
        store=services.store,
        wake=services.wake,
        vault=services.vault,
        hub_token=hub_token,
        hub_token_expires_at=hub_token_expires_at,
        idempotency_key=idempotency_key,
        content_key=None if force else same,
        source_sha=sha,
        force=force,
    )
