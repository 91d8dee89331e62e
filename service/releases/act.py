"""From a noted release to its jobs: looked up again, weighed against the limits, submitted exactly once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.hub.errors import HubError
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel, check_compressible
from service.jobs.content import content_key
from service.jobs.policy import utc_now
from service.jobs.schema import JobDestination, JobFilter, JobSource, JobSubmission
from service.jobs.store import JobStore
from service.jobs.submit import submit
from service.releases.errors import InvalidWatchError, WatchNotFoundError
from service.releases.matching import destination_of, matches_model, matches_ref
from service.releases.schema import Release, ReleaseState, Watch
from service.releases.store import WatchStore
from srr_core.recipe import Recipe

_log = structlog.get_logger(__name__)

_DAY = timedelta(hours=24)
_ASK_AGAIN = timedelta(minutes=5)
_GIVE_UP = timedelta(days=3)
"""How long a release whose model cannot be read is asked about; gated access may be granted a day later."""
_LIMIT_AGAIN = timedelta(hours=1)
_OURS = frozenset({"report.json", "recipe.json"})
"""Files that every artifact of this product has, whoever published it."""


@dataclass(frozen=True)
class Desk:
    """What deciding about releases works with."""

    watches: WatchStore
    jobs: JobStore
    hub: HubMetadata
    wake: Callable[[], None]
    core_version: str
    token: str | None = None
    """Hub token to read watched models with."""
    clock: Callable[[], datetime] = utc_now


def act_on_releases(desk: Desk) -> int:
    """Decide about every release that is due, and return how many became jobs. A periodic duty.

    Each job carries an idempotency key made from the release: two processes that decide at once, or one that
    was killed before it could write down what it did, start one job.
    """
    return sum(_act(release, desk) for release in desk.watches.pending(now=desk.clock()))


def _act(release: Release, desk: Desk) -> bool:
    try:
        watch = desk.watches.get(release.watch_id)
    except WatchNotFoundError:
        return False  # deleted a moment ago, and the release with it
    skip = _skipped_unseen(release, watch, desk)
    if skip is not None:
        desk.watches.decide(release, ReleaseState.SKIPPED, now=desk.clock(), reason=skip)
        return False
    if desk.watches.submitted_since(watch.id, desk.clock() - _DAY) >= watch.per_day:
        until = desk.clock() + _LIMIT_AGAIN
        desk.watches.defer(release, until=until, reason=f"the limit of {watch.per_day} releases in 24 hours is used up")
        return False
    try:
        model = desk.hub.resolve(release.repo_id, release.sha, token=desk.token)
        skip = skip_reason(model, watch)
    except HubError as error:
        _put_off(release, error, desk)
        return False
    if skip is not None:
        desk.watches.decide(release, ReleaseState.SKIPPED, now=desk.clock(), reason=skip)
        return False
    return _submit(release, watch, desk)


def skip_reason(model: ResolvedModel, watch: Watch) -> str | None:
    """Return why a watch leaves a model alone, or None. Raises nothing: a refusal is a reason."""
    if {file.path for file in model.files} >= _OURS:
        return "it is an artifact of this product"
    if watch.max_weight_bytes is not None and model.weight_bytes > watch.max_weight_bytes:
        return f"its weights take {model.weight_bytes:,} bytes; the watch allows {watch.max_weight_bytes:,}"
    try:
        check_compressible(model)
    except HubError as error:
        return str(error)
    return None


def _skipped_unseen(release: Release, watch: Watch, desk: Desk) -> str | None:
    if not watch.enabled:
        return "the watch was switched off"
    if not matches_model(watch, release.repo_id) or not matches_ref(watch, release.ref):
        return "the watch was changed and is not about it any more"
    if desk.jobs.list(JobFilter(destination=release.repo_id), limit=1).jobs:
        return "this service publishes to it"
    if desk.watches.is_submitted(release):
        return "the same commit was compressed under another branch or tag"
    return None


def _put_off(release: Release, error: HubError, desk: Desk) -> None:
    now = desk.clock()
    if now - release.seen_at < _GIVE_UP:
        desk.watches.defer(release, until=now + _ASK_AGAIN, reason=str(error)[:400])
    else:
        desk.watches.decide(release, ReleaseState.FAILED, now=now, reason=str(error)[:400])


def _submit(release: Release, watch: Watch, desk: Desk) -> bool:
    try:
        jobs = [_submit_one(release, watch, recipe, desk) for recipe in watch.recipes]
    except InvalidWatchError as error:
        desk.watches.decide(release, ReleaseState.FAILED, now=desk.clock(), reason=str(error)[:400])
        return False
    desk.watches.decide(release, ReleaseState.SUBMITTED, now=desk.clock(), jobs=jobs)
    _log.info("release_submitted", watch_id=watch.id, repo_id=release.repo_id, sha=release.sha, jobs=jobs)
    return True


def _submit_one(release: Release, watch: Watch, recipe: Recipe, desk: Desk) -> str:
    repo_id = destination_of(watch, release.repo_id, release.ref, recipe)
    submission = JobSubmission(
        source=JobSource(model_id=release.repo_id, revision=release.sha),
        destination=JobDestination(repo_id=repo_id, private=watch.private),
        recipe=recipe,
        tags=("release", f"watch:{watch.id}"[:64]),
        acknowledge_license=watch.acknowledge_license,
    )
    job = submit(
        submission,
        owner=watch.owner,
        store=desk.jobs,
        wake=desk.wake,
        idempotency_key=f"{release.id}:{recipe.digest()}:{repo_id}",
        content_key=content_key(submission, source_sha=release.sha, core_version=desk.core_version),
    )
    return job.id
