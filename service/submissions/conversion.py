"""What can be said of a conversion before it is queued: whether it is an artifact of ours, and the format fits it."""

from collections.abc import Mapping
from typing import Any

from service.hub.destination import CONVERSION_FILE
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel, check_license, check_readable
from service.jobs.work import ConvertWork
from service.submissions.examination import Examination
from service.submissions.fleet import Fleet
from service.submissions.refusal import SOURCE, TARGET
from srr_core.checkpoint.artifact_names import MARKER
from srr_core.errors import ExportError
from srr_core.recipe.compatibility import rope_type
from srr_core.report import read_report
from srr_core.telling.conversions import obstacle

SCRATCH_FACTOR: Mapping[str, int] = {"gguf": 3, "gptq": 3, "merged": 10}
"""Scratch space as a multiple of the download, as the worker reserves it."""


def look_at_conversion(
    found: Examination, work: ConvertWork, hub: HubMetadata, fleet: Fleet, *, token: str | None
) -> None:
    """Run the checks of a conversion on an artifact that was resolved."""
    model = found.model
    if model is None:
        return
    found.attempt(SOURCE, lambda: _check_artifact(model))
    if not hub.is_local:
        found.attempt("body.acknowledge_license", lambda: check_license(model, acknowledged=work.acknowledge_license))
    if found.is_refused(SOURCE):
        return
    found.attempt(TARGET, lambda: _check_format(work, model, hub.artifact_report(model, token=token)))
    size = SCRATCH_FACTOR[work.target.kind] * sum(file.size_bytes for file in model.whole_downloads)
    found.attempt(SOURCE, lambda: fleet.require_capacity(memory_bytes=0, scratch_bytes=size))


def _check_artifact(model: ResolvedModel) -> None:
    check_readable(model)
    if any(file.path == CONVERSION_FILE for file in model.files):
        raise ExportError(f"{model.model_id} is a conversion already; convert what it was made from")
    stated = (model.config or {}).get("quantization_config")
    if not isinstance(stated, Mapping) or (MARKER not in stated and stated.get("quant_method") != MARKER):
        raise ExportError(
            f"{model.model_id} is no artifact of this service, so there is nothing to convert; compress it first"
        )


def _check_format(work: ConvertWork, model: ResolvedModel, stored: Mapping[str, Any] | None) -> None:
    """Refuse what the report of the artifact rules out; one that cannot be read leaves it to the worker."""
    if stored is None:
        return
    try:
        report = read_report(stored)
    except ValueError:
        return
    reason = obstacle(work.target, report, rope=rope_type(model.config or {}))
    if reason is not None:
        raise ExportError(f"{model.model_id} cannot be converted to {work.target.kind}: {reason}")
