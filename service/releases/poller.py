"""The source of truth about releases: reads the Hub's listings and finds what no webhook told of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.hub.errors import HubError, ModelNotFoundError
from service.hub.releases import HubReleases
from service.jobs.ids import new_id
from service.jobs.policy import utc_now
from service.releases.matching import branch_ref, matches_model, matches_ref, tag_ref
from service.releases.schema import Release, ReleaseState, Watch
from service.releases.store import WatchStore

_log = structlog.get_logger(__name__)

POLL_EVERY = timedelta(minutes=10)
SWEEP_EVERY = timedelta(hours=24)
"""How often all models of a watch are looked at, and not only those the Hub lists as changed."""
_OVERLAP = timedelta(hours=1)
"""Changes listed shortly before the last poll are looked at again: listings lag behind."""
_LISTED_MODELS = 1000


@dataclass(frozen=True)
class FoundRef:
    """A watched branch or tag and the commit it points to."""

    repo_id: str
    ref: str
    sha: str


def poll_watches(
    store: WatchStore, hub: HubReleases, *, token: str | None = None, clock: Callable[[], datetime] = utc_now
) -> int:
    """Poll every enabled watch whose turn it is, and return how many releases are new. A periodic duty.

    A Hub that does not answer is logged and asked again in the next round. Several processes may do this at once.
    """
    found = 0
    for watch in store.list():
        if not watch.enabled or (watch.polled_at is not None and clock() - watch.polled_at < POLL_EVERY):
            continue
        try:
            found += poll_watch(watch, store, hub, token=token, clock=clock)
        except HubError as error:
            _log.warning("watch_not_polled", watch_id=watch.id, code=error.code)
    return found


def poll_watch(
    watch: Watch,
    store: WatchStore,
    hub: HubReleases,
    *,
    token: str | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Note the releases of one watch that are not known yet, and return how many are to be acted on.

    The first poll takes commits older than the watch as seen: a new watch compresses nothing by itself.

    Raises:
        HubError: the Hub does not answer; what was noted before stays noted.
    """
    now = clock()
    is_sweep = watch.swept_at is None or now - watch.swept_at >= SWEEP_EVERY
    since = None if is_sweep or watch.polled_at is None else watch.polled_at - _OVERLAP
    is_first = watch.swept_at is None
    new = 0
    for found in find_refs(watch, hub, since=since, token=token):
        is_old = is_first and _committed_at(hub, found, token) <= watch.created_at
        new += store.record(_release(watch, found, now, is_old=is_old)) and not is_old
    store.mark_polled(watch.id, now=now, swept=is_sweep)
    return new


def find_refs(watch: Watch, hub: HubReleases, *, since: datetime | None, token: str | None) -> Iterator[FoundRef]:
    """Yield the watched branches and tags of the watched models that changed since a time, or of all.

    Raises:
        HubError: the Hub does not answer.
    """
    for model_id in _models(watch, hub, since, token):
        try:
            refs = hub.refs(model_id, token=token)
        except ModelNotFoundError:
            continue  # deleted, renamed or made private between the listing and now
        named = [(branch_ref(name), sha) for name, sha in refs.branches.items()]
        named += [(tag_ref(name), sha) for name, sha in refs.tags.items()]
        yield from (FoundRef(model_id, ref, sha) for ref, sha in named if matches_ref(watch, ref))


def _models(watch: Watch, hub: HubReleases, since: datetime | None, token: str | None) -> Sequence[str]:
    if "*" not in watch.pattern and "?" not in watch.pattern:
        return [watch.pattern]
    listed = hub.models(watch.hub_owner, token=token, limit=_LISTED_MODELS)
    return [
        model.model_id
        for model in listed
        if matches_model(watch, model.model_id) and (since is None or model.changed_at >= since)
    ]


def _committed_at(hub: HubReleases, found: FoundRef, token: str | None) -> datetime:
    return hub.commits(found.repo_id, found.sha, token=token, limit=1)[0].created_at


def _release(watch: Watch, found: FoundRef, now: datetime, *, is_old: bool) -> Release:
    return Release(
        id=new_id("release"),
        watch_id=watch.id,
        repo_id=found.repo_id,
        ref=found.ref,
        sha=found.sha,
        seen_by="poller",
        state=ReleaseState.SKIPPED if is_old else ReleaseState.PENDING,
        reason="it was there before the watch" if is_old else None,
        seen_at=now,
        due_at=now,
        decided_at=now if is_old else None,
    )
