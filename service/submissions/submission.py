"""Submitting a job, the same way from REST and from the form: replay, quota, preflight, then the queue."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from service.hub.chosen import Hubs
from service.jobs.credentials import CredentialVault
from service.jobs.ports import JobsOfCallers
from service.jobs.schema import Job, JobSubmission
from service.jobs.submit import check_submission, replay, submit
from service.jobs.tenancy import Tenancy
from service.jobs.uploads import TextUploads
from service.submissions.caller import Caller
from service.submissions.fleet import Fleet
from service.submissions.preflight import examine
from service.submissions.refusal import refuse


class SubmissionServices(Protocol):
    """The parts of the application that a submission goes through."""

    @property
    def store(self) -> JobsOfCallers:
        """Where jobs are kept."""

    @property
    def vault(self) -> CredentialVault:
        """Seals the Hub token of a job."""

    @property
    def wake(self) -> Callable[[], None]:
        """Sends what the outbox holds, without waiting for it."""

    @property
    def tenancy(self) -> Tenancy:
        """What callers may do with hubs they share."""

    @property
    def uploads(self) -> TextUploads:
        """Texts that submissions name."""

    @property
    def hubs(self) -> Hubs:
        """Where models are looked up."""

    @property
    def fleet(self) -> Fleet:
        """What the workers can hold."""

    @property
    def core_version(self) -> str:
        """The version of the core that the workers run."""


def submit_checked(
    submission: JobSubmission,
    services: SubmissionServices,
    caller: Caller,
    *,
    hub_token: str | None = None,
    hub_token_expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    force: bool = False,
) -> Job:
    """Queue a job without a known obstacle, or return the one that does the same.

    A hub that does not answer refuses nothing: the job says what was not checked, and the worker checks everything
    again before it downloads.

    Raises:
        HubError, SrrError, JobError: the first obstacle; its cause names all of them. TextNotFoundError among them: it
            names a text that the caller has not uploaded.
        QuotaExceededError: the caller has used up what they may have.
    """
    checked = check_submission(
        submission,
        owner=caller.owner,
        vault=services.vault,
        hub_token=hub_token,
        hub_token_expires_at=hub_token_expires_at,
        idempotency_key=idempotency_key,
        force=force,
        admit=caller.admit,
        max_running=caller.quota.max_running if caller.quota is not None else None,
    )
    before = replay(checked, services.store)
    if before is not None:
        return before
    caller.require_room(services.store)
    work = submission.work
    found = examine(
        work,
        services.hubs,
        services.fleet,
        tenant=services.tenancy.of(caller.owner),
        texts=services.uploads.of(caller.owner),
        token=hub_token,
    )
    refuse(found.obstacles)
    sha = found.model.sha if found.model is not None else None
    known = sha or services.hubs.known_sha(work.source.model_id, work.source.revision)
    reference = found.reference.sha if found.reference is not None else None
    pinned = checked.at_commit(known, core_version=services.core_version, reference_sha=reference)
    pinned = replace(pinned, unchecked=tuple(found.not_asked))
    return submit(pinned, store=services.store, wake=services.wake)
