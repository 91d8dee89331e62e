"""The source of truth about releases: reads the Hub's listings and finds what no webhook reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.hub.errors import HubError, HubUnavailableError, InvalidTokenError
from service.hub.releases import HubReleases
from service.platform.clock import utc_now
from service.platform.ids import new_id
from service.releases.matching import branch_ref, has_wildcard, matches_model, matches_ref, tag_ref
from service.releases.rights import WatchRights
from service.releases.schema import Release, ReleaseState, Sweep, Watch
from service.releases.store import WatchStore

_log = structlog.get_logger(__name__)

POLL_EVERY = timedelta(minutes=10)
SWEEP_EVERY = timedelta(hours=24)
"""How often all models of a watch are looked at, and not only those the Hub lists as changed."""
_OVERLAP = timedelta(hours=1)
"""Changes listed shortly before the last poll are looked at again: listings lag behind."""
_LISTED_MODELS = 1000
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
"""After a failed poll: the first wait, doubled with each failure up to the longest. The Hub may ask for more."""
_LONGEST_ASKED = timedelta(hours=24)
_MAX_ERROR = 400
TELL_AFTER = 5
"""Failures in a row, about a quarter of an hour: what is over sooner is nobody's business."""

Tell = Callable[[Watch, str, datetime], None]
"""Tells the owner of a watch why it fails, and when it is tried again."""


@dataclass(frozen=True)
class WatchedModel:
    """A model that a watch is about; without a time of change when no listing was read."""

    model_id: str
    changed_at: datetime | None = None


@dataclass(frozen=True)
class FoundRef:
    """A watched branch or tag and the commit it points to."""

    repo_id: str
    ref: str
    sha: str


def poll_watches(
    store: WatchStore,
    hub: HubReleases,
    rights: WatchRights,
    *,
    tell: Tell = lambda *_: None,
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Poll every enabled watch whose turn it is, and return how many releases are new. A periodic duty.

    Several processes may do this at once: each poll is made by one of them. One that fails is logged, noted at the
    watch and repeated after a while that grows; one whose process dies is repeated when the next is due. After
    TELL_AFTER failures in a row the owner is notified, once.
    """
    found = 0
    for watch in store.list():
        now = clock()
        if not watch.enabled or (watch.next_poll_at is not None and watch.next_poll_at > now):
            continue
        if not store.take_turn(watch.id, now=now, until=now + POLL_EVERY):
            continue
        try:
            found += poll_watch(watch, store, rights.seen(hub, watch), token=rights.token_of(watch), clock=clock)
        except HubError as error:
            until = clock() + wait_after(error, failures=watch.poll_failures)
            store.mark_failed(watch, until=until, error=str(error)[:_MAX_ERROR])
            if watch.poll_failures + 1 == TELL_AFTER:
                tell(watch, str(error)[:_MAX_ERROR], until)
            _log.warning("watch_not_polled", watch_id=watch.id, code=error.code, until=until.isoformat())
    return found


def wait_after(error: HubError, *, failures: int) -> timedelta:
    """Return how long to leave the Hub alone after a failed poll that came after so many others."""
    asked = error.retry_after_seconds if isinstance(error, HubUnavailableError) else None
    grown = min(_FIRST_WAIT * (1 << min(failures, 16)), _LONGEST_WAIT)
    return max(grown, min(timedelta(seconds=asked or 0), _LONGEST_ASKED))


def poll_watch(
    watch: Watch,
    store: WatchStore,
    hub: HubReleases,
    *,
    token: str | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Note the releases of one watch that are not known yet, and return how many are to be acted on.

    The first look at all models takes what is older than the watch as seen: a new watch compresses nothing by itself.
    A look at all models costs a request for each, and for a new watch another for each commit of a model that has
    changed since; one that the Hub interrupts goes on where it stopped. A model that cannot be read is left out.

    Raises:
        HubError: the Hub does not answer, or refuses the token; what was noted before stays noted.
    """
    now = clock()
    sweep = store.sweep(watch.id) or _new_sweep(watch, now)
    look = _Look(watch, store, hub, token, now, store.known(watch.id))
    new, left_out = 0, []
    for model in _models_of(watch, hub, sweep, token):
        try:
            new += look.at(model)
        except HubError as error:
            if not concerns_one_model(error):
                if sweep is not None:
                    store.keep_sweep(watch, sweep)
                raise
            left_out.append(str(error))
            _log.warning("model_not_polled", watch_id=watch.id, repo_id=model.model_id, code=error.code)
        sweep = sweep and sweep.model_copy(update={"done_to": model.model_id})
    # Changes that come while a sweep takes several polls are looked for from its beginning.
    began_at = now if sweep is None else sweep.began_at
    store.mark_polled(watch, now=began_at, swept=sweep is not None, error=_complaint(left_out))
    return new


def watched_models(
    watch: Watch, hub: HubReleases, *, since: datetime | None, token: str | None
) -> Sequence[WatchedModel]:
    """Return the models a watch is about that changed since a time, or all. Raises HubError."""
    if not has_wildcard(watch):
        return [WatchedModel(watch.pattern)]
    listed = hub.models(watch.hub_owner, token=token, limit=_LISTED_MODELS)
    return [
        WatchedModel(model.model_id, model.changed_at)
        for model in listed
        if matches_model(watch, model.model_id) and (since is None or model.changed_at >= since)
    ]


def watched_refs(watch: Watch, hub: HubReleases, model_id: str, *, token: str | None) -> Sequence[FoundRef]:
    """Return the watched branches and tags of a model. Raises HubError."""
    refs = hub.refs(model_id, token=token)
    named = [(branch_ref(name), sha) for name, sha in refs.branches.items()]
    named += [(tag_ref(name), sha) for name, sha in refs.tags.items()]
    return [FoundRef(model_id, ref, sha) for ref, sha in named if matches_ref(watch, ref)]


def concerns_one_model(error: HubError) -> bool:
    """Whether other models may be read all the same: this one was deleted, disabled, made private, gated."""
    return not isinstance(error, HubUnavailableError | InvalidTokenError)


@dataclass(frozen=True)
class _Look:
    """One poll's way of looking at a model."""

    watch: Watch
    store: WatchStore
    hub: HubReleases
    token: str | None
    now: datetime
    known: frozenset[tuple[str, str, str]]

    def at(self, model: WatchedModel) -> int:
        """Note what a model has that is not known, and return how many releases are to be acted on."""
        refs = watched_refs(self.watch, self.hub, model.model_id, token=self.token)
        fresh = [found for found in refs if (found.repo_id, found.ref, found.sha) not in self.known]
        old = [found for found in fresh if self.watch.swept_at is None and self._was_there(found, model)]
        self.store.record([_release(self.watch, found, self.now, is_old=True) for found in old])
        return self.store.record([_release(self.watch, one, self.now, is_old=False) for one in fresh if one not in old])

    def _was_there(self, found: FoundRef, model: WatchedModel) -> bool:
        if model.changed_at is not None and model.changed_at <= self.watch.created_at:
            return True  # saves a request for each ref, which is most of what a first look would cost
        commits = self.hub.commits(found.repo_id, found.sha, token=self.token, limit=1)
        return bool(commits) and commits[0].created_at <= self.watch.created_at


def _new_sweep(watch: Watch, now: datetime) -> Sweep | None:
    is_due = watch.swept_at is None or now - watch.swept_at >= SWEEP_EVERY
    return Sweep(began_at=now) if is_due else None


def _models_of(watch: Watch, hub: HubReleases, sweep: Sweep | None, token: str | None) -> Sequence[WatchedModel]:
    if sweep is None:
        since = None if watch.polled_at is None else watch.polled_at - _OVERLAP
        return watched_models(watch, hub, since=since, token=token)
    rest = [one for one in watched_models(watch, hub, since=None, token=token) if one.model_id > sweep.done_to]
    return sorted(rest, key=lambda one: one.model_id)


def _complaint(left_out: Sequence[str]) -> str | None:
    if not left_out:
        return None
    return f"{len(left_out)} of its models could not be read: {left_out[0]}"[:_MAX_ERROR]


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
