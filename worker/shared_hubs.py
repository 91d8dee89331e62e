"""What a job may read and where it may publish, among the owners that share a worker, whatever kind of work it is."""

import hashlib
from pathlib import Path

from service.hub.destination import Destination, Holding, check_destination
from service.hub.folder import visible
from service.hub.model import ResolvedModel, check_license
from service.jobs.work import DatasetFile, JobDestination, JobSource
from srr_core.errors import TrainingDataError
from srr_core.recipe.byte_sizes import size_words
from worker.run_context import RunContext


def resolved(source: JobSource, context: RunContext) -> ResolvedModel:
    """Return a model at its commit, as the owner of the job sees it. A later attempt keeps the commit of the first.

    Raises:
        HubError: it is not there, or not for them; private models of others cannot be told from none.
    """
    hub = context.source_hub(source.model_id)
    revision, token = source.sha or source.revision, context.access.token_for(source.model_id)
    model = hub.resolve(source.model_id, revision, token=token)
    if token is not None and context.access.own is None and not context.tenant.loan.covers(model.model_id):
        # It was renamed, and the token that was lent for its old place sees more than its new owner allows.
        model = hub.resolve(source.model_id, revision)
    return visible(model, is_local=hub.is_local, may_see=context.tenant.sees_local)


def training_file(data: DatasetFile, context: RunContext) -> Path:
    """Return a file of a dataset, fetched into the workspace as the owner of the job sees it.

    Raises:
        HubError: the dataset is not there, or not for them; private ones of others cannot be told from none.
        TrainingDataError: it has no such file, or this worker fetches nothing.
        StopRequested: the job was asked to stop.
    """
    if context.datasets is None:
        raise TrainingDataError(
            f"dataset {data.dataset} is on the Hub, and this worker fetches nothing there; upload the rows"
        )
    hub, token = context.datasets(), context.access.token_for(data.dataset)
    if token is not None and context.access.own is None:
        # As with models: behind a new name may lie what the token sees and its borrower does not.
        current = hub.name_of(data.dataset, data.revision, token=token)
        token = token if context.tenant.loan.covers(current) else None
    return hub.fetch(
        data.dataset, data.revision, data.path, context.workspace.data, token=token, should_stop=context.should_stop
    )


def kept_results(source: ResolvedModel | None, context: RunContext) -> Path:
    """Return the folder where what a source scored is kept: everybody's for a public one, else the owner's alone."""
    if source is None or not (source.private or source.gated):
        return context.cache / "sources"
    return context.cache / "sources-of-owners" / hashlib.sha256(context.tenant.owner.encode()).hexdigest()


def destination(repo_id: str, context: RunContext) -> Destination:
    """Return a repository that the owner of the job may publish to.

    Raises:
        HubTokenNeededError, DestinationTakenError: they may not, or what is there is somebody else's.
    """
    hub, token = context.destination_hub, context.access.token_for(repo_id)
    if not hub.is_local and token is None:
        context.tenant.require_loan(repo_id)
    found = hub.destination(repo_id, token=token)
    if hub.is_local or context.access.own is None:
        context.tenant.require_destination(repo_id, is_free=found.is_empty)
    return found


def settle(
    source: JobSource,
    model: ResolvedModel,
    target: JobDestination,
    context: RunContext,
    *,
    acknowledged: bool,
    holding: Holding = "compression",
) -> None:
    """Check that the owner may make and publish this of a model, and write its commit down.

    Raises:
        HubError: the licence, or what is at the destination, forbids it.
        LeaseLostError: somebody else does the job by now.
    """
    if not context.source_hub(source.model_id).is_local:
        check_license(model, acknowledged=acknowledged)
    check_destination(destination(target.repo_id, context), model, private=target.private, holding=holding)
    context.require_ours(context.store.resolve_source(context.lease, sha=model.sha))
    context.progress.say(f"Resolved {model.model_id} at {source.revision} to commit {model.sha[:12]}.")


def download_whole(source: JobSource, model: ResolvedModel, context: RunContext, *, space_factor: float) -> None:
    """Fetch every file of a model into the workspace.

    Args:
        space_factor: Scratch space that the job needs, as a multiple of the download.

    Raises:
        HubError: the hub refuses or cannot be reached.
        StopRequested: the job was asked to stop.
    """
    size = sum(file.size_bytes for file in model.whole_downloads)
    context.require_free(max(0, int(size * space_factor) - context.workspace.size_bytes()))
    # By the id that was asked for: the canonical one, after a rename, might be known to another hub.
    context.source_hub(source.model_id).download(
        model,
        context.workspace.source,
        whole=True,
        token=context.access.token_for(source.model_id),
        on_progress=context.progress.on_bytes,
        should_stop=context.should_stop,
    )
    context.progress.say(f"Downloaded {model.model_id}, {size_words(size)}, and checked each file.")


def write_down_publisher(repo_id: str, context: RunContext) -> None:
    """Write the owner of the job down as the publisher of a repository, before anything is there.

    Raises:
        DestinationTakenError: somebody else was faster.
    """
    is_own = context.access.own is not None and not context.destination_hub.is_local
    context.tenant.publish(repo_id, with_own_token=is_own)
