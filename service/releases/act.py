"""From a noted release to its jobs: looked up again, weighed against the limits, submitted exactly once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.hub.errors import HubError
from service.hub.folder import visible
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel, check_compressible
from service.hub.result_bits import bits_of_result
from service.jobs.errors import HubTokenNeededError, IdempotencyConflictError, InvalidJobError
from service.jobs.ports import JobsOfCallers
from service.jobs.schema import JobSubmission
from service.jobs.submit import check_submission, submit
from service.jobs.work import CompressWork, JobDestination, JobSource
from service.platform.clock import utc_now
from service.platform.errors import StoreUnavailableError
from service.releases.errors import InvalidWatchError, WatchNotFoundError
from service.releases.matching import destination_of, matches_model, matches_ref, needs_total_bits
from service.releases.rights import WatchRights
from service.releases.schema import Release, ReleaseState, Watch
from service.releases.store import WatchStore
from srr_core.recipe import Recipe
from srr_core.recipe.byte_sizes import size_words

_log = structlog.get_logger(__name__)

_DAY = timedelta(hours=24)
_ASK_AGAIN = timedelta(minutes=5)
_GIVE_UP = timedelta(days=3)
"""How long a release whose model cannot be read is asked about; gated access may be granted a day later."""
_LIMIT_AGAIN = timedelta(hours=1)
_MAX_REASON = 400
_OURS = frozenset({"report.json", "recipe.json"})
"""Files without which the publisher publishes nothing: they mark every commit of ours, and no list of jobs has to be
right for that. Whose job it was, and how it ended, is for others to make up; what a commit holds is not."""


@dataclass(frozen=True)
class ReleaseContext:
    """What deciding about releases works with."""

    watches: WatchStore
    jobs: JobsOfCallers
    hub: Callable[[str], HubMetadata]
    """The hub that has a model."""
    wake: Callable[[], None]
    core_version: str
    rights: WatchRights
    no_room: Callable[[str], str | None] = lambda _: None
    """Why an owner may not have another job now, or None."""
    max_running: Callable[[str], int | None] = lambda _: None
    """How many jobs of an owner are at work at once."""
    clock: Callable[[], datetime] = utc_now


def act_on_releases(context: ReleaseContext) -> int:
    """Decide about every release that is due, and return how many became jobs. A periodic duty.

    Each job carries an idempotency key made from the release: two processes that decide at once, or one that
    was killed before it could write down what it did, start one job. What an owner's quota has no room for waits.
    """
    return sum(_act_alone(release, context) for release in context.watches.pending(now=context.clock()))


def _act_alone(release: Release, context: ReleaseContext) -> bool:
    try:
        return _act(release, context)
    except StoreUnavailableError:
        raise  # about all releases: the round is postponed
    except Exception as error:  # noqa: BLE001  # the edge of one release: the others do not wait behind a bug
        _log.error("release_not_decided", release_id=release.id, exc_info=error)
        context.watches.defer(
            release, until=context.clock() + _LIMIT_AGAIN, reason=f"failed here: {type(error).__name__}"
        )
        return False


def _act(release: Release, context: ReleaseContext) -> bool:
    try:
        watch = context.watches.get(release.watch_id)
    except WatchNotFoundError:
        return False  # deleted a moment ago, and the release with it
    skip = _skipped_unseen(release, watch, context)
    if skip is not None:
        context.watches.decide(release, ReleaseState.SKIPPED, now=context.clock(), reason=skip)
        return False
    if context.watches.submitted_since(watch.id, context.clock() - _DAY) >= watch.per_day:
        until = context.clock() + _LIMIT_AGAIN
        context.watches.defer(
            release, until=until, reason=f"the limit of {watch.per_day} releases in 24 hours is used up"
        )
        return False
    full = context.no_room(watch.owner)
    if full is not None:
        context.watches.defer(release, until=context.clock() + _ASK_AGAIN, reason=full[:_MAX_REASON])
        return False
    try:
        hub = context.hub(release.repo_id)
        model = hub.resolve(release.repo_id, release.sha, token=context.rights.token_of(watch))
        may_see = context.rights.tenancy.of(watch.owner).sees_local
        visible(model, is_local=hub.is_local, may_see=may_see)
        skip = skip_reason(model, watch)
        bits = total_bits(hub, model, watch, context.rights.token_of(watch)) if skip is None else {}
    except HubError as error:
        _put_off(release, error, context)
        return False
    if skip is not None:
        context.watches.decide(release, ReleaseState.SKIPPED, now=context.clock(), reason=skip)
        return False
    return _submit(release, watch, context, bits)


def skip_reason(model: ResolvedModel, watch: Watch) -> str | None:
    """Return why a watch leaves a model alone, or None. Raises nothing: a refusal is a reason."""
    if {file.path for file in model.files} >= _OURS:
        return "it is an artifact of this product"
    if watch.max_weight_bytes is not None and model.weight_bytes > watch.max_weight_bytes:
        most = size_words(watch.max_weight_bytes)
        return f"its weights take {size_words(model.weight_bytes)}; the watch allows {most}"
    try:
        check_compressible(model)
    except HubError as error:
        return str(error)
    return None


def _skipped_unseen(release: Release, watch: Watch, context: ReleaseContext) -> str | None:
    if not watch.enabled:
        return "the watch was switched off"
    if not matches_model(watch, release.repo_id) or not matches_ref(watch, release.ref):
        return "the watch was changed and is not about it any more"
    if context.watches.is_submitted(release):
        return "the same commit was compressed under another branch or tag"
    return None


def _put_off(release: Release, error: HubError, context: ReleaseContext) -> None:
    now = context.clock()
    if now - release.seen_at < _GIVE_UP:
        context.watches.defer(release, until=now + _ASK_AGAIN, reason=str(error)[:_MAX_REASON])
    else:
        context.watches.decide(release, ReleaseState.FAILED, now=now, reason=str(error)[:_MAX_REASON])


def total_bits(hub: HubMetadata, model: ResolvedModel, watch: Watch, token: str | None) -> dict[str, float]:
    """Return the bits of each result over the whole model by the digest of its recipe, where names need them.

    Raises:
        HubError: the headers of the weights cannot be read.
    """
    if not needs_total_bits(watch):
        return {}
    weights = hub.inspect(model, token=token)
    return {recipe.digest(): bits_of_result(recipe, model, weights) for recipe in watch.recipes}


def _submit(release: Release, watch: Watch, context: ReleaseContext, bits: Mapping[str, float]) -> bool:
    # By destination, which differs between recipes: those that an earlier round had room for.
    made = {context.jobs.get(job_id).work.destination_id: job_id for job_id in release.job_ids}
    try:
        for recipe in watch.recipes:
            total = bits.get(recipe.digest())
            repo_id = destination_of(watch, release.repo_id, release.ref, recipe, total_bits=total)
            if repo_id in made:
                continue
            full = context.no_room(watch.owner) if made else None
            if full is not None:
                until = context.clock() + _ASK_AGAIN
                context.watches.defer(release, until=until, reason=full[:_MAX_REASON], jobs=[*made.values()])
                return False
            made[repo_id] = _submit_one(release, watch, recipe, repo_id, context)
    except (InvalidWatchError, InvalidJobError, IdempotencyConflictError, HubTokenNeededError) as error:
        reason = str(error)[:_MAX_REASON]
        context.watches.decide(release, ReleaseState.FAILED, now=context.clock(), reason=reason, jobs=[*made.values()])
        return False
    jobs = [*made.values()]
    context.watches.decide(release, ReleaseState.SUBMITTED, now=context.clock(), jobs=jobs)
    _log.info("release_submitted", watch_id=watch.id, repo_id=release.repo_id, sha=release.sha, jobs=jobs)
    return True


def _submit_one(release: Release, watch: Watch, recipe: Recipe, repo_id: str, context: ReleaseContext) -> str:
    context.rights.require_destination(watch.owner, repo_id)
    work = CompressWork(
        source=JobSource(model_id=release.repo_id, revision=release.sha),
        destination=JobDestination(repo_id=repo_id, private=watch.private),
        recipe=recipe,
        acknowledge_license=watch.acknowledge_license,
    )
    checked = check_submission(
        JobSubmission(work=work, tags=("release", f"watch:{watch.id}"[:64])),
        owner=watch.owner,
        idempotency_key=f"{release.id}:{recipe.digest()}:{repo_id}",
        max_running=context.max_running(watch.owner),
    )
    pinned = checked.at_commit(release.sha, core_version=context.core_version)
    return submit(pinned, store=context.jobs, wake=context.wake).id
