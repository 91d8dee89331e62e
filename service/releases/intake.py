"""What the Hub's webhooks tell us: checked, noted, and believed only as far as to look again."""

import hmac
from collections.abc import Callable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from service.jobs.credentials import CredentialVault
from service.jobs.schema import SealedSecret
from service.jobs.work import RepoId
from service.platform.clock import utc_now
from service.platform.ids import new_id
from service.releases.errors import HookForbiddenError, HookPayloadError
from service.releases.matching import matches_model, matches_ref
from service.releases.schema import Release, Watch
from service.releases.store import WatchStore
from service.releases.watches import SECRET_EXPIRES

_CONTENT_SCOPE = "repo.content"
_MAX_REFS = 1000
_REPO_ID: TypeAdapter[str] = TypeAdapter(RepoId)


class _Payload(BaseModel):
    # Our own model: the client library's one misspells headSha and refuses versions and types it does not know.
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, frozen=True)


class HookEvent(_Payload):
    """What happened: an action, and where."""

    action: str
    scope: str


class HookRepo(_Payload):
    """The repository it happened to."""

    type: str
    name: str


class HookRef(_Payload):
    """A branch or tag that moved. No old commit: it is new. No new one: it was deleted."""

    ref: str = Field(max_length=255, pattern=r"^[^\x00-\x20\x7f]+$")
    old_sha: str | None = None
    new_sha: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")


class HookPayload(_Payload):
    """The part of a webhook of the Hub, version 3, that we use."""

    event: HookEvent
    repo: HookRepo
    updated_refs: tuple[HookRef, ...] = Field(default=(), max_length=_MAX_REFS)


def authentic_watch(watch_id: str, *, secret: str | None, store: WatchStore, vault: CredentialVault) -> Watch:
    """Return the watch a delivery is for. Call it before looking at the body of a stranger.

    Args:
        secret: The X-Webhook-Secret header; the Hub sends it in clear and signs nothing.

    Raises:
        HookForbiddenError: no such watch, or not its secret.
    """
    found = store.get_with_secret(watch_id)
    if found is None or secret is None or not _is_secret(secret, found[1], vault):
        raise HookForbiddenError("the delivery does not carry the secret of this webhook")
    return found[0]


def take_delivery(body: bytes, watch: Watch, *, store: WatchStore, clock: Callable[[], datetime] = utc_now) -> int:
    """Note the releases a delivery names, and return how many are new. Fast: it asks no hub and starts no job.

    A delivery that comes twice, late or out of order notes nothing new. Pull requests, deletions and models that
    are not watched are ignored. One statement notes all of its refs.

    Raises:
        HookPayloadError: not a webhook of the Hub.
    """
    try:
        payload = HookPayload.model_validate_json(body)
    except ValidationError as error:
        raise HookPayloadError(f"not a webhook of the Hub: {error.error_count()} fields are wrong") from error
    if not watch.enabled or not _is_release(payload, watch):
        return 0
    found = (_release(watch, payload.repo.name, ref, clock()) for ref in payload.updated_refs)
    return store.record([release for release in found if release is not None])


def _is_secret(given: str, sealed: bytes, vault: CredentialVault) -> bool:
    expected = vault.open(SealedSecret(ciphertext=sealed, expires_at=SECRET_EXPIRES))
    return hmac.compare_digest(expected.encode(), given.encode())


def _is_release(payload: HookPayload, watch: Watch) -> bool:
    # The documentation asks to take an unknown narrower scope for its broader one.
    scope = payload.event.scope
    is_content = scope in ("repo", _CONTENT_SCOPE) or scope.startswith(f"{_CONTENT_SCOPE}.")
    is_model = payload.repo.type == "model" and _is_repo_id(payload.repo.name)
    return is_content and is_model and payload.event.action != "delete" and matches_model(watch, payload.repo.name)


def _release(watch: Watch, repo_id: str, ref: HookRef, now: datetime) -> Release | None:
    if ref.new_sha is None or not matches_ref(watch, ref.ref):
        return None
    return Release(
        id=new_id("release"),
        watch_id=watch.id,
        repo_id=repo_id,
        ref=ref.ref,
        sha=ref.new_sha,
        seen_by="webhook",
        seen_at=now,
        due_at=now,
    )


def _is_repo_id(name: str) -> bool:
    try:
        _REPO_ID.validate_python(name)
    except ValidationError:
        return False
    return True
