"""What can be said of an evaluation before it is queued: whether its models can be read, and what fits them."""

from collections.abc import Iterator
from functools import partial

from service.hub.destination import CONVERSION_FILE
from service.hub.model import ResolvedModel, check_readable
from service.jobs.work import EvaluateWork
from service.submissions.examination import Examination
from service.submissions.fleet import Fleet
from service.submissions.refusal import REFERENCE, SOURCE
from srr_core.errors import EvaluationError
from srr_core.recipe.architectures import check_config
from srr_core.recipe.evaluations import misfit, too_large

_EVALUATORS = "body.evaluators"
_OURS = frozenset({"report.json", "tuning.json"})


def look_at_evaluation(found: Examination, work: EvaluateWork, fleet: Fleet) -> None:
    """Run the checks of an evaluation on models that were resolved."""
    read = [(SOURCE, found.model), (REFERENCE, found.reference)]
    for where, model in read:
        if model is not None:
            found.attempt(where, partial(_check_measurable, model))
    if found.model is not None:
        found.attempt(_EVALUATORS, partial(_check_fit, work, found.model, found.reference))
        size = sum(file.size_bytes for _, one in read if one is not None for file in one.whole_downloads)
        found.attempt(SOURCE, lambda: fleet.require_capacity(memory_bytes=0, scratch_bytes=size))


def _check_measurable(model: ResolvedModel) -> None:
    check_readable(model)
    paths = {file.path for file in model.files}
    is_ours = not _OURS.isdisjoint(paths) and CONVERSION_FILE not in paths
    config = dict(model.config or {})
    if is_ours:  # what is packed by us is read by us
        config.pop("quantization_config", None)
    check_config(config, to_compress=False)


def _check_fit(work: EvaluateWork, model: ResolvedModel, reference: ResolvedModel | None) -> None:
    misfits = list(_misfits(work, model, reference))
    if not misfits:
        return
    unfit = {kind for kind, _ in misfits}
    fitting = ", ".join(spec.kind for spec in work.evaluators if spec.kind not in unfit)
    rest = f"; these would run: {fitting}" if fitting else ""
    raise EvaluationError("; ".join(reason for _, reason in misfits) + rest)


def _misfits(work: EvaluateWork, model: ResolvedModel, reference: ResolvedModel | None) -> Iterator[tuple[str, str]]:
    architecture = next(iter(model.architectures), "")
    for spec in work.evaluators:
        reason = misfit(
            spec.kind, architecture, has_reference=work.reference is not None, has_pairs=work.pairs is not None
        )
        sizes = (too_large(spec.kind, one.weight_bytes, one.model_id) for one in (model, reference) if one is not None)
        reason = reason or next(filter(None, sizes), None)
        if reason is not None:
            yield spec.kind, reason
