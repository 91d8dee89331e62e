"""Making, changing and announcing watches."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from service.hub.webhooks import HubWebhooks, SyncAction, Watched, sync_webhook
from service.jobs.credentials import CredentialVault
from service.jobs.schema import SealedSecret
from service.platform.clock import utc_now
from service.platform.ids import new_id
from service.releases.matching import check_rules, has_wildcard
from service.releases.schema import Watch, WatchRules
from service.releases.store import WatchStore

SECRET_EXPIRES = datetime(9999, 1, 1, tzinfo=UTC)
"""A watch's secret lives as long as the watch."""
HOOK_PATH = "/v1/hooks/huggingface/{watch_id}"


def create_watch(
    rules: WatchRules,
    *,
    owner: str,
    store: WatchStore,
    vault: CredentialVault,
    clock: Callable[[], datetime] = utc_now,
) -> Watch:
    """Store a new watch with a secret of its own. What is there already counts as seen; see the poller.

    Raises:
        InvalidWatchError: the rules could not work.
    """
    check_rules(rules)
    watch = Watch(**dict(rules), id=new_id("watch"), owner=owner, created_at=clock())
    store.add(watch, sealed_secret=vault.seal(secrets.token_urlsafe(32)).ciphertext)
    return watch


def change_watch(watch_id: str, rules: WatchRules, *, owner: str | None, store: WatchStore) -> Watch:
    """Replace the rules of a watch.

    What it has not looked at before counts like what was there before a new watch: old commits are no releases.

    Raises:
        InvalidWatchError, WatchNotFoundError: as their names say.
    """
    check_rules(rules)
    before = store.get(watch_id, owner=owner)
    watch = before.model_copy(update=dict(rules))
    store.change(watch, start_over=before.looks_at != rules.looks_at)
    return store.get(watch_id, owner=owner)


def sync_watch(
    watch: Watch, *, base_url: str, store: WatchStore, vault: CredentialVault, webhooks: HubWebhooks, token: str
) -> SyncAction:
    """Make the Hub tell us of this watch's releases; creates, repairs or re-enables its webhook.

    Raises:
        HubError: the token may not manage webhooks, or the Hub does not answer.
        WatchNotFoundError: it was deleted meanwhile.
    """
    sealed = store.secret(store.get(watch.id).id) or b""
    secret = vault.open(SealedSecret(ciphertext=sealed, expires_at=SECRET_EXPIRES))
    url = base_url.rstrip("/") + HOOK_PATH.format(watch_id=watch.id)
    return sync_webhook(webhooks, url=url, watched=frozenset({_target(watch)}), secret=secret, token=token)[1]


def _target(watch: Watch) -> Watched:
    return Watched(watch.namespace, watch.hub_owner) if has_wildcard(watch) else Watched("model", watch.pattern)
