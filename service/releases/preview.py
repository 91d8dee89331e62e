"""What a watch would have done lately: asks the Hub and changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from service.hub.errors import HubError
from service.hub.metadata import HubMetadata
from service.hub.releases import HubReleases, ListedCommit
from service.jobs.errors import HubTokenNeededError
from service.platform.clock import utc_now
from service.releases.act import skip_reason, total_bits
from service.releases.errors import InvalidWatchError
from service.releases.matching import check_rules, destination_of
from service.releases.poller import FoundRef, concerns_one_model, watched_models, watched_refs
from service.releases.rights import WatchRights
from service.releases.schema import Preview, Watch

_log = structlog.get_logger(__name__)

_COMMITS = 50


def preview_watch(
    watch: Watch,
    *,
    releases: HubReleases,
    hub: Callable[[str], HubMetadata],
    rights: WatchRights,
    days: int = 30,
    limit: int = 50,
    clock: Callable[[], datetime] = utc_now,
) -> Sequence[Preview]:
    """Return the releases of the last days that the watch would have acted on or skipped, newest first.

    Costs a request for each model, branch, tag and commit; `limit` bounds the commits. The daily limit is not played
    through, and a model that cannot be read is left out.

    Raises:
        InvalidWatchError: the rules could not work.
        HubError: the Hub does not answer, or refuses the token.
    """
    check_rules(watch)
    releases, token = rights.seen(releases, watch), rights.token_of(watch)
    since = clock() - timedelta(days=days)
    found: dict[tuple[str, str], tuple[FoundRef, ListedCommit]] = {}
    for model in watched_models(watch, releases, since=since, token=token):
        for ref, commit in _commits(watch, releases, model.model_id, token):
            if commit.created_at > since:
                found.setdefault((ref.repo_id, commit.sha), (ref, commit))
    newest = sorted(found.values(), key=lambda one: one[1].created_at, reverse=True)[:limit]
    return [_preview(watch, ref, commit, hub, rights) for ref, commit in newest]


def _commits(
    watch: Watch, releases: HubReleases, model_id: str, token: str | None
) -> Sequence[tuple[FoundRef, ListedCommit]]:
    try:
        return [
            (ref, commit)
            for ref in watched_refs(watch, releases, model_id, token=token)
            for commit in releases.commits(ref.repo_id, ref.sha, token=token, limit=_COMMITS)
        ]
    except HubError as error:
        if not concerns_one_model(error):
            raise
        _log.warning("model_not_previewed", repo_id=model_id, code=error.code)
        return []


def _preview(
    watch: Watch, ref: FoundRef, commit: ListedCommit, hub: Callable[[str], HubMetadata], rights: WatchRights
) -> Preview:
    destinations: tuple[str, ...] = ()
    try:
        destinations = _destinations(watch, ref, {})
        for repo_id in destinations:
            rights.require_destination(watch.owner, repo_id)
        token, source = rights.token_of(watch), hub(ref.repo_id)
        model = source.resolve(ref.repo_id, commit.sha, token=token)
        skipped = skip_reason(model, watch)
        if skipped is None:
            destinations = _destinations(watch, ref, total_bits(source, model, watch, token))
    except (HubError, InvalidWatchError, HubTokenNeededError) as error:
        skipped = str(error)
    return Preview(
        repo_id=ref.repo_id,
        ref=ref.ref,
        sha=commit.sha,
        released_at=commit.created_at,
        destinations=destinations,
        skipped=skipped,
    )


def _destinations(watch: Watch, ref: FoundRef, bits: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(
        destination_of(watch, ref.repo_id, ref.ref, recipe, total_bits=bits.get(recipe.digest()))
        for recipe in watch.recipes
    )
