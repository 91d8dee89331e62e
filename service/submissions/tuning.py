"""What can be said of a fine-tuning before it is queued: whether its source fits its start, and what its rows are."""

from pathlib import Path
from tempfile import TemporaryDirectory

from service.hub.metadata import HubMetadata
from service.hub.model import TUNING_REPORT, ResolvedModel, check_compressible, check_license, going_on
from service.jobs.uploads import OwnTexts
from service.jobs.work import FinetuneWork, TrainingData
from service.submissions.examination import Examination
from service.submissions.fleet import Fleet
from service.submissions.refusal import SOURCE
from service.submissions.tuning_estimate import scratch_bytes, tuned_model
from srr_core.checkpoint.artifact_names import ADAPTER_FILE
from srr_core.errors import UnsupportedModelError
from srr_core.recipe import tuning_cost
from srr_core.recipe.architectures import check_config
from srr_core.recipe.tuning import ArtifactStart, TuningSpec
from srr_core.tuners.data_report import DataSketch
from srr_core.tuners.kept import require_kept
from srr_core.tuners.sketch import sketch

_DATA, _VALIDATION = "body.data", "body.validation"
_ENDINGS = {"jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "text": ".txt"}
_OURS = frozenset({"report.json", TUNING_REPORT})
_QUANTIZATION = "quantization_config"


def look_at_tuning(
    found: Examination, work: FinetuneWork, hub: HubMetadata, fleet: Fleet, texts: OwnTexts, *, token: str | None
) -> None:
    """Run the checks of a fine-tuning on a model that was resolved, and on the rows it came with or names."""
    model = found.model
    if model is not None:
        if isinstance(work.tuning.start, ArtifactStart):
            model = found.model = going_on(model, work.tuning.start.checkpoint)
        found.attempt(SOURCE, lambda: _check_start(work, model))
        if not _is_packed(work, model) and model.has_safetensors:
            found.attempt(SOURCE, lambda: _read_headers(found, model, hub, token))
        found.attempt(SOURCE, lambda: _require_capacity(found, work, model, fleet))
        if not hub.is_local:
            found.attempt(
                "body.acknowledge_license", lambda: check_license(model, acknowledged=work.acknowledge_license)
            )
    if not found.is_refused(_DATA):
        found.attempt(_DATA, lambda: _look_at_rows(found, work, texts))
    if not found.is_refused(_VALIDATION):
        found.attempt(_VALIDATION, lambda: _look_at_validation(found, work, texts))


def _check_start(work: FinetuneWork, model: ResolvedModel) -> None:
    check_compressible(model)
    config, start = dict(model.config or {}), work.tuning.start
    if isinstance(start, ArtifactStart):
        if start.checkpoint is not None:
            require_kept(model.model_id, start.checkpoint, model.kept_steps)
        elif not _can_go_on(model):
            raise UnsupportedModelError(
                f"{model.model_id} is no artifact of this service, so there is no L·R in it to go on learning; choose "
                f"another start{_or_a_checkpoint(model)}"
            )
    if work.takes_artifact:  # what is packed by us is read by us
        config.pop(_QUANTIZATION, None)
    check_config(config)


def _can_go_on(model: ResolvedModel) -> bool:
    """Whether L·R lies beside the weights, or could: merged, a fine-tuning of ours has one matrix per layer."""
    paths = {file.path for file in model.files}
    return bool(paths & _OURS) and (_QUANTIZATION in (model.config or {}) or ADAPTER_FILE in paths)


def _is_packed(work: FinetuneWork, model: ResolvedModel) -> bool:
    """Whether headers do not show the shapes of its layers."""
    return work.takes_artifact and _QUANTIZATION in (model.config or {})


def _or_a_checkpoint(model: ResolvedModel) -> str:
    kept = ", ".join(map(str, model.kept_steps))
    return f", or start.checkpoint, which may be {kept}" if kept else ""


def _read_headers(found: Examination, model: ResolvedModel, hub: HubMetadata, token: str | None) -> None:
    found.weights = hub.inspect(model, token=token)


def _require_capacity(found: Examination, work: FinetuneWork, model: ResolvedModel, fleet: Fleet) -> None:
    """Refuse what no worker can hold whatever the rows are; what a pass takes is an estimate, and refuses nothing."""
    memory = tuning_cost.fixed_bytes(work.tuning, tuned_model(model, found.weights))
    fleet.require_capacity(memory_bytes=memory, scratch_bytes=scratch_bytes(model))


def _look_at_rows(found: Examination, work: FinetuneWork, texts: OwnTexts) -> None:
    if isinstance(work.data, TrainingData):
        found.data = _sketched(work.data, work.tuning, texts, "data")


def _look_at_validation(found: Examination, work: FinetuneWork, texts: OwnTexts) -> None:
    if work.validation is not None:
        found.judged = _sketched(work.validation, work.tuning, texts, "validation")


def _sketched(data: TrainingData, spec: TuningSpec, texts: OwnTexts, name: str) -> DataSketch | None:
    text = data.text
    if text is None and data.sha256 is not None:
        text = texts.text(data.sha256)
    if text is None:
        return None
    with TemporaryDirectory(prefix="srr-rows-") as folder:
        file = Path(folder) / f"{name}{_ENDINGS[data.format]}"
        file.write_bytes(text.encode(errors="replace"))
        return sketch(file, spec)
