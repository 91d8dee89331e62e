"""Every check that can be made before a job is queued: of the model, of the destination, of the workers."""

from collections.abc import Mapping, Sequence
from functools import partial

from service.hub.chosen import Hubs
from service.hub.destination import Holding, check_destination
from service.hub.errors import (
    AccessDeniedError,
    InvalidTokenError,
    ModelNotFoundError,
)
from service.hub.folder import visible
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel, check_compressible, check_license
from service.hub.naming import check_repo_id
from service.hub.result_bits import kept_bytes
from service.hub.weights import Weights
from service.jobs.hub_tokens import require_hub_token
from service.jobs.ports import JobReading
from service.jobs.tenancy import Tenant
from service.jobs.uploads import OwnTexts
from service.jobs.windows import job_recipe
from service.jobs.work import (
    CompressWork,
    ConvertWork,
    EvaluateWork,
    FinetuneWork,
    JobDestination,
    JobSource,
    Work,
    named_texts,
)
from service.platform.text import clean
from service.submissions.conversion import look_at_conversion
from service.submissions.estimate import estimate, memory_bytes, run_recipe, scratch_bytes, size_note
from service.submissions.evaluation import look_at_evaluation
from service.submissions.examination import Examination
from service.submissions.fleet import Fleet
from service.submissions.refusal import DESTINATION, RECIPE, REFERENCE, SOURCE, Obstacle
from service.submissions.schema import ModelResource, ProblemNote, Validation
from service.submissions.tuning import look_at_tuning
from service.submissions.tuning_estimate import tuning_estimate
from srr_core.recipe import Recipe, cost
from srr_core.recipe.architectures import check_config, class_name, is_encoder_decoder, require_spendable
from srr_core.recipe.compatibility import compatibility, rope_type
from srr_core.recipe.reach import require_reachable
from srr_core.recipe.stored_schemes import check_stored
from srr_core.recipe.targets import Model, require_target, unserved
from srr_core.recipe.verdicts import CompatibilityRow

_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")
_HOLDING: Mapping[str, Holding] = {
    "compress": "compression",
    "evaluate": "evaluation",
    "finetune": "fine-tuning",
    "convert": "conversion",
}
_OUR_WORD = "the worker looks with a token of its own, so the job may still work"


def inspect_model(
    hubs: Hubs, model_id: str, revision: str, *, tenant: Tenant, token: str | None = None
) -> ModelResource:
    """Return what is known of a model without downloading a weight, as this caller may see it.

    Raises:
        HubError: the model cannot be found or may not be read, or its hub does not answer.
    """
    hub = hubs.source(model_id)
    found = Examination(model=_resolved(hub, model_id, revision, tenant, token))
    _look_at_model(found, hub, token)
    found.require_answers()
    return _resource(found)


def examine(
    work: Work, hubs: Hubs, fleet: Fleet, *, tenant: Tenant, texts: OwnTexts, token: str | None = None
) -> Examination:
    """Run every check of a submission and change nothing. Raises nothing: what is wrong is in the result.

    Only what is certain is an obstacle. A hub that does not answer, and what a worker with a token of its own may
    be allowed to do where that is lent to the caller, is left to the worker.
    """
    found = Examination()
    source, destination = work.source, work.published_to
    found.attempt("body.hub_token", lambda: require_hub_token(token))
    if found.obstacles:
        return found  # no question can be asked with it
    for name, digest in named_texts(work).items():
        found.attempt(f"body.{name}", partial(texts.require, digest))
    found.attempt(SOURCE, lambda: check_repo_id(source.model_id))
    if destination is not None:
        found.attempt(DESTINATION, lambda: check_repo_id(destination.repo_id))
    if not found.is_refused(SOURCE):
        hub = hubs.source(source.model_id)
        found.attempt(SOURCE, lambda: _resolve(found, source, hubs, fleet, tenant, token))
        if isinstance(work, EvaluateWork):
            found.attempt(REFERENCE, lambda: _resolve_reference(found, work, hubs, fleet, tenant, token))
            look_at_evaluation(found, work, fleet)
        elif isinstance(work, FinetuneWork):
            look_at_tuning(found, work, hub, fleet, texts, token=token)
        elif isinstance(work, ConvertWork):
            look_at_conversion(found, work, hub, fleet, token=token)
        else:
            _look_at_model(found, hub, token)
            _look_at_budget(found, work)
            _look_at_terms(found, work, hub)
            _look_at_workers(found, work, fleet)
            _look_at_size(found, work)
            _look_at_target(found, work)
    if destination is not None and found.model is not None and not found.is_refused(DESTINATION):
        found.attempt(DESTINATION, lambda: _look_at_destination(found, work, destination, hubs, tenant, token))
    return found


def validate(
    work: Work,
    hubs: Hubs,
    store: JobReading,
    fleet: Fleet,
    *,
    tenant: Tenant,
    texts: OwnTexts,
    token: str | None = None,
) -> Validation:
    """Run every check of a submission and say what it would lead to.

    Raises:
        HubUnavailableError: the hub does not answer, so nothing can be said.
    """
    found = examine(work, hubs, fleet, tenant=tenant, texts=texts, token=token)
    found.require_answers()
    destination, model, weights = found.destination, found.model, found.weights
    return Validation(
        valid=not found.obstacles,
        problems=_notes(found.obstacles),
        notes=found.notes,
        model=_resource(found) if model is not None else None,
        destination_exists=destination is not None and destination.exists,
        destination_private=found.private,
        destination_writable=destination.writable if destination is not None else None,
        estimate=estimate(run_recipe(work, model), model, weights, store, fleet, owner=tenant.owner)
        if isinstance(work, CompressWork) and model and weights
        else None,
        training=tuning_estimate(work, model, found, store, fleet, owner=tenant.owner)
        if isinstance(work, FinetuneWork) and model is not None
        else None,
        compatibility=_runtimes(job_recipe(work), model, weights)
        if isinstance(work, CompressWork) and model is not None
        else [],
        data=found.data,
    )


def _runtimes(recipe: Recipe, model: ResolvedModel, weights: Weights | None) -> list[CompatibilityRow]:
    asked = _asked(model, weights)
    rows = compatibility(
        recipe, asked.shapes, architecture=asked.architecture, rope=asked.rope, has_experts=asked.has_experts
    )
    return list(rows)


def _asked(model: ResolvedModel, weights: Weights | None) -> Model:
    config = model.config or {}
    return Model(
        weights.anatomy.shapes if weights else (),
        architecture=next(iter(model.architectures), ""),
        rope=rope_type(config),
        has_experts=any(key in config for key in _EXPERT_KEYS),
    )


def _resolved(hub: HubMetadata, model_id: str, revision: str, tenant: Tenant, token: str | None) -> ResolvedModel:
    model = hub.resolve(model_id, revision, token=token)
    return visible(model, is_local=hub.is_local, may_see=tenant.sees_local)


def _resolve(
    found: Examination, source: JobSource, hubs: Hubs, fleet: Fleet, tenant: Tenant, token: str | None
) -> None:
    found.model = _found_on_its_hub(found, source, hubs, fleet, tenant, token)


def _resolve_reference(
    found: Examination, work: EvaluateWork, hubs: Hubs, fleet: Fleet, tenant: Tenant, token: str | None
) -> None:
    if work.reference is not None:
        check_repo_id(work.reference.model_id)
        found.reference = _found_on_its_hub(found, work.reference, hubs, fleet, tenant, token)


def _found_on_its_hub(
    found: Examination, source: JobSource, hubs: Hubs, fleet: Fleet, tenant: Tenant, token: str | None
) -> ResolvedModel | None:
    hub = hubs.source(source.model_id)
    revision = hubs.known_sha(source.model_id, source.revision) or source.revision
    try:
        return _resolved(hub, source.model_id, revision, tenant, token)
    except InvalidTokenError:
        raise
    except (ModelNotFoundError, AccessDeniedError) as error:
        is_lent = fleet.has_hub_token() and tenant.loan.covers(source.model_id)
        if hub.is_local or token is not None or not is_lent:
            raise
        found.notes.append(f"{str(error).rstrip('.')}; {_OUR_WORD}.")
        return None


def _look_at_model(found: Examination, hub: HubMetadata, token: str | None) -> None:
    model = found.model
    if model is None:
        return
    found.attempt(SOURCE, lambda: check_compressible(model))
    found.attempt(SOURCE, lambda: check_config(model.config))

    def read_headers() -> None:
        found.weights = hub.inspect(model, token=token)
        check_stored({name: tensor.dtype for name, tensor in found.weights.tensors.items()}, model.config or {})

    if model.has_safetensors:
        found.attempt(SOURCE, read_headers)


def _look_at_terms(found: Examination, work: CompressWork, hub: HubMetadata) -> None:
    model = found.model
    if model is not None and not hub.is_local:
        found.attempt("body.acknowledge_license", lambda: check_license(model, acknowledged=work.acknowledge_license))


def _look_at_workers(found: Examination, work: CompressWork, fleet: Fleet) -> None:
    model, weights = found.model, found.weights
    if model is None or weights is None:
        return
    if not fleet.alive():
        found.notes.append("No worker is at work now, so whether one is large enough is not known; the job would wait.")
    memory = memory_bytes(run_recipe(work, model), model, weights)
    found.attempt(SOURCE, lambda: fleet.require_capacity(memory_bytes=memory, scratch_bytes=scratch_bytes(model)))


def _look_at_size(found: Examination, work: CompressWork) -> None:
    if found.model is not None and found.weights is not None:
        for note in (
            cost.share_note(found.weights.compressed_share),
            size_note(run_recipe(work, found.model), found.model, found.weights),
        ):
            found.notes.extend([f"{note[0].upper()}{note[1:]}."] if note else [])


def _look_at_target(found: Examination, work: CompressWork) -> None:
    if found.model is None or found.weights is None:
        return
    recipe, asked = job_recipe(work), _asked(found.model, found.weights)
    found.attempt(RECIPE, lambda: require_target(recipe, asked))
    note = unserved(recipe, asked)
    found.notes.extend([f"{note[0].upper()}{note[1:]}."] if note else [])


def _look_at_budget(found: Examination, work: CompressWork) -> None:
    model, weights, recipe = found.model, found.weights, job_recipe(work)
    if model is None:
        return
    config = model.config or {}
    is_halved = is_encoder_decoder(config)
    found.attempt(RECIPE, lambda: require_spendable(recipe.budget, class_name(config), is_encoder_decoder=is_halved))
    if recipe.budget is not None and recipe.budget.target_kl is not None:
        found.notes.append(
            "The target is a divergence, so the search finds out the size; what is estimated is the recipe's own grid."
        )
    if weights is not None:
        kept = kept_bytes(model, weights)
        reach = partial(require_reachable, source_bytes=model.weight_bytes - kept, kept_bytes=kept)
        found.attempt(RECIPE, lambda: reach(recipe, weights.anatomy.shapes))


def _look_at_destination(
    found: Examination, work: Work, destination: JobDestination, hubs: Hubs, tenant: Tenant, token: str | None
) -> None:
    repo_id, hub = destination.repo_id, hubs.destination
    if token is None and not hub.is_local:
        tenant.require_loan(repo_id)
    place = hub.destination(repo_id, token=token) if token is not None else hub.visible_destination(repo_id)
    if token is None or hub.is_local:
        tenant.require_destination(repo_id, is_free=place.is_empty)
    found.destination = place
    if place.writable is None:
        found.notes.append(f"Whether {repo_id} may be written is not known here: the worker's own token decides.")
    if found.model is not None:
        found.private = check_destination(place, found.model, private=destination.private, holding=_HOLDING[work.kind])


def _resource(found: Examination) -> ModelResource:
    model, weights = found.model, found.weights
    if model is None:
        raise ValueError("a model that was not found has no description")
    return ModelResource(
        model_id=model.model_id,
        sha=model.sha,
        private=model.private,
        gated=model.gated,
        license=model.license_name or model.license,
        architectures=model.architectures,
        pipeline_tag=model.pipeline_tag,
        parameters=weights.parameters if weights else None,
        dtypes=dict(weights.dtypes) if weights else {},
        weight_bytes=model.weight_bytes,
        download_bytes=model.download_bytes,
        header_bytes=weights.header_bytes if weights else None,
        url=model.url,
        problems=_notes([obstacle for obstacle in found.obstacles if obstacle.field == SOURCE]),
    )


def _notes(obstacles: Sequence[Obstacle]) -> list[ProblemNote]:
    return [ProblemNote(code=obstacle.error.code, message=clean(str(obstacle.error))) for obstacle in obstacles]


def refused(*problems: ProblemNote) -> Validation:
    """Return the answer to a submission of whose model nothing is known."""
    return Validation(
        valid=False,
        problems=list(problems),
        notes=[],
        model=None,
        destination_exists=False,
        destination_private=None,
        destination_writable=None,
        estimate=None,
        compatibility=[],
    )
