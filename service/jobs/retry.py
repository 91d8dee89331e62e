"""Running a failed or canceled job again."""

from collections.abc import Callable
from datetime import datetime

from service.jobs.access import owned_job
from service.jobs.credentials import CredentialVault, require_own_token
from service.jobs.errors import InvalidJobError
from service.jobs.hub_tokens import require_hub_token
from service.jobs.ports import Admit, JobsOfCallers
from service.jobs.schema import Job


def retry(
    job_id: str,
    *,
    owner: str | None,
    store: JobsOfCallers,
    wake: Callable[[], None],
    vault: CredentialVault | None = None,
    hub_token: str | None = None,
    hub_token_expires_at: datetime | None = None,
    admit: Admit | None = None,
) -> Job:
    """Queue the next attempt of a job that failed or was canceled. Its earlier token is gone; give it again.

    Raises:
        JobNotFoundError: it does not exist or belongs to another owner.
        JobNotRetryableError: it has not ended, or it succeeded.
        InvalidJobError: its owner must bring a token, it had one and gets none now, or the token is malformed.
    """
    before = owned_job(store, job_id, owner)
    require_own_token(before.owner, hub_token)
    require_hub_token(hub_token)
    if before.needs_hub_token and hub_token is None:
        # With the worker's token it might read, or publish as, somebody the caller never meant.
        raise InvalidJobError(
            f"job {job_id} came with a Hub token of its own, which was deleted when it ended; retry it with hub_token, "
            "or submit it anew"
        )
    if hub_token is not None and vault is None:
        raise InvalidJobError("this service keeps no Hub tokens; use the one it was configured with")
    sealed = None
    if vault is not None and hub_token is not None:
        sealed = vault.seal(hub_token, expires_at=hub_token_expires_at)
    job = store.retry(job_id, credential=sealed, admit=admit)
    wake()
    return job
