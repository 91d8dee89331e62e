"""Submitting a job: check once, persist, wake. Sending follows from what was persisted."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from pydantic import TypeAdapter

from service.jobs.content import content_key
from service.jobs.credentials import CredentialVault, require_own_token
from service.jobs.errors import InvalidJobError
from service.jobs.hub_tokens import require_hub_token
from service.jobs.ports import Admit, JobSubmissions
from service.jobs.schema import Job, JobState, JobSubmission, SealedSecret
from service.jobs.texts import detach_texts
from service.jobs.work import CompressWork, FinetuneWork, Work, WorkBase
from service.platform.clock import utc_now
from service.platform.ids import new_id
from service.platform.tracing import current_traceparent

_log = structlog.get_logger(__name__)
_JSON: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])
MAX_IDEMPOTENCY_KEY = 255
"""Characters. Source: Stripe's API, as in the IETF draft httpapi-idempotency-key."""


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission with nothing wrong by itself, and all that follows from it: made once, handed from step to step."""

    submission: JobSubmission
    """As it was asked for, with its texts."""
    work: Work
    """With its texts by digest."""
    texts: Mapping[str, str]
    owner: str
    request_digest: str
    """What an idempotency key stands for."""
    hub_token: str | None = field(default=None, repr=False)
    credential: SealedSecret | None = None
    """The token as it is stored."""
    idempotency_key: str | None = None
    is_forced: bool = False
    content_key: str | None = None
    unchecked: tuple[str, ...] = ()
    """What no hub could be asked about."""
    admit: Admit | None = field(default=None, compare=False)
    """Whether the owner may have one more."""
    max_running: int | None = None

    def at_commit(self, sha: str | None, *, core_version: str, reference_sha: str | None = None) -> "CheckedSubmission":
        """Return the submission pinned to the commit its revision was resolved to; None: it was not.

        With the commit it is known which other jobs would make the same artifact, unless another run is insisted on.
        """
        if sha is None:
            return self
        work = self.work.at_commit(sha, reference_sha=reference_sha)
        is_known = not self.is_forced and all(model.sha for model in work.models)
        key = content_key(work, source_sha=sha, core_version=core_version) if is_known else None
        return replace(self, work=work, content_key=key)


def check_submission(
    submission: JobSubmission,
    *,
    owner: str,
    vault: CredentialVault | None = None,
    hub_token: str | None = None,
    hub_token_expires_at: datetime | None = None,
    idempotency_key: str | None = None,
    force: bool = False,
    admit: Admit | None = None,
    max_running: int | None = None,
) -> CheckedSubmission:
    """Refuse what is wrong by itself, whatever the Hub says.

    Args:
        hub_token: Kept sealed until the job ends; never in a message or a log.
        hub_token_expires_at: When it ends by itself, if that is known; a worker does not begin with it then.
        idempotency_key: The same key and request of the same owner give the same job for a day.
        admit: Asked when the job is stored, with what its owner has by then.
        max_running: How many jobs of the owner are at work at once; workers leave the others waiting.
        force: Whether the caller insists on another run; a part of the request that the key stands for.

    Raises:
        InvalidJobError: source and destination are the same, a text, the key or the token is malformed, or the owner
            must bring a token.
    """
    work = submission.work
    if work.source.model_id.lower() == work.destination_id.lower():
        raise InvalidJobError(f"destination {work.destination_id!r} is the source itself; name another repository")
    if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidJobError(f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters")
    require_hub_token(hub_token)
    require_own_token(owner, hub_token)
    if hub_token is not None and vault is None:
        raise InvalidJobError("this service keeps no Hub tokens; use the one it was configured with")
    detached, texts = detach_texts(work)
    return CheckedSubmission(
        submission=submission,
        work=detached,
        texts=texts,
        owner=owner,
        request_digest=_request_digest(submission, force=force),
        hub_token=hub_token,
        credential=(
            vault.seal(hub_token, expires_at=hub_token_expires_at)
            if vault is not None and hub_token is not None
            else None
        ),
        idempotency_key=idempotency_key,
        is_forced=force,
        admit=admit,
        max_running=min((bound for bound in (max_running, work.max_running) if bound is not None), default=None),
    )


def replay(checked: CheckedSubmission, store: JobSubmissions) -> Job | None:
    """Return the job that this request made when it came before, or None when it is new.

    Raises:
        IdempotencyConflictError: the key came before with another request.
    """
    if checked.idempotency_key is None:
        return None
    return store.replayed(checked.owner, checked.idempotency_key, request_digest=checked.request_digest)


def submit(
    checked: CheckedSubmission, *, store: JobSubmissions, wake: Callable[[], None], traceparent: str | None = None
) -> Job:
    """Persist a job and wake the sender. Does not wait for the broker.

    Args:
        wake: Called once the job is committed; sends what the outbox holds, usually `Maintenance.wake`.
        traceparent: Trace the job belongs to; the current one by default.

    Raises:
        IdempotencyConflictError: the key came before with another request.
    """
    now = utc_now()
    job = Job(
        id=new_id("job"),
        state=JobState.QUEUED,
        work=checked.work,
        tags=checked.submission.tags,
        max_attempts=checked.submission.max_attempts,
        brought_token=checked.credential is not None,
        owner=checked.owner,
        created_at=now,
        updated_at=now,
        content_key=checked.content_key,
        unchecked=checked.unchecked,
        max_running=checked.max_running,
        traceparent=traceparent or current_traceparent(),
    )
    stored = store.add(
        job,
        texts=checked.texts,
        idempotency_key=checked.idempotency_key,
        request_digest=checked.request_digest,
        credential=checked.credential,
        admit=checked.admit,
    )
    # The line that joins the ids: whoever has the request's, bound by the edge, finds the job.
    _log.info("job_submitted", job_id=stored.id, is_new=stored.id == job.id)
    wake()
    return stored


def _request_digest(submission: JobSubmission, *, force: bool) -> str:
    # Flat, as the first version had it, and what came later only where it was asked for: its keys still replay.
    work: WorkBase = submission.work
    later = {"kind", "acknowledge_license"} if work.kind == "compress" else {"acknowledge_license"}
    said = work.model_dump(mode="json", exclude=later) | submission.model_dump(mode="json", exclude={"work"})
    if isinstance(work, CompressWork):
        said["recipe"] = work.recipe.stated()
    elif isinstance(work, FinetuneWork):
        said["tuning"] = work.tuning.stated()
    flags = {"force": force, "acknowledge_license": work.acknowledge_license}
    return hashlib.sha256(_JSON.dump_json(said) + "".join(sorted(filter(flags.get, flags))).encode()).hexdigest()
