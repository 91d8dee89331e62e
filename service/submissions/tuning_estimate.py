"""What a fine-tuning would take: steps and memory from rows and shapes, time from earlier ones or a worker's speed."""

import statistics
from collections.abc import Mapping
from typing import Any

from examples import CALIBRATION_TEXT
from service.hub.model import ResolvedModel
from service.hub.weights import Weights
from service.jobs.ports import JobReading
from service.jobs.schema import JobFilter, JobState
from service.jobs.work import FinetuneWork
from service.submissions.estimate import HISTORY
from service.submissions.examination import Examination
from service.submissions.fleet import Fleet
from service.submissions.schema import TrainingEstimate
from srr_core.recipe import Recipe, cost, tuning_cost
from srr_core.recipe.tuning import LoRAStart, RecipeStart, TuningSpec
from srr_core.recipe.tuning_cost import TunedModel, Workload
from srr_core.tuners.kept import kept_step

SCRATCH_FACTOR = 4
"""Scratch space as a multiple of the download, as the worker reserves it."""
_FACTORS = "adapter_model.safetensors"
_FACTOR_BYTES = 2
"""Of a stored value of L·R, which our artifacts hold in 16 bits."""
_FORWARD_SHARE = 0.5
"""What a token of an evaluation takes of one that is trained on: one product of two."""


def scratch_bytes(model: ResolvedModel) -> int:
    """Return the disk a worker needs while it works."""
    return SCRATCH_FACTOR * sum(file.size_bytes for file in model.whole_downloads)


def tuned_model(model: ResolvedModel, weights: Weights | None) -> TunedModel:
    """Return the sizes of a model: from its headers, or for packed weights from its files and its configuration."""
    config = model.config or {}
    hidden, vocabulary, blocks = tuning_cost.sizes_of(config)
    sizes = {"hidden_size": hidden, "vocabulary": vocabulary, "blocks": blocks}
    factors = sum(file.size_bytes for file in model.files if _is_of_start(file.path, model)) // _FACTOR_BYTES
    base = model.checkpoint_base if model.checkpoint is not None else ()
    if weights is not None and not base:
        shapes = weights.anatomy.shapes
        kept = weights.parameters - sum(rows * columns for rows, columns in shapes)
        return TunedModel(shapes, max(kept, 0), **sizes, factor_values=factors or None)
    base_bytes = sum(file.size_bytes for file in base if file.path.endswith(".safetensors"))
    return TunedModel(
        tuning_cost.usual_shapes(config) if weights is None else weights.anatomy.shapes,
        vocabulary * hidden,
        **sizes,
        packed_bytes=base_bytes or model.weight_bytes,
        factor_values=factors or None,
    )


def _is_of_start(path: str, model: ResolvedModel) -> bool:
    """Whether a file holds the factors that a training would begin with."""
    if model.checkpoint is None:
        return path == _FACTORS
    return kept_step(path) == model.checkpoint and path.endswith(f"/{_FACTORS}")


def tuning_estimate(
    work: FinetuneWork, model: ResolvedModel, found: Examination, store: JobReading, fleet: Fleet, *, owner: str
) -> TrainingEstimate | None:
    """Return what a fine-tuning would take; None where nothing is known of the model's layers."""
    spec, tuned = work.tuning, tuned_model(model, found.weights)
    if not tuned.shapes:
        return None
    rows = _workload(work, found)
    worker = fleet.fastest()
    rate = worker.operations_per_second if worker is not None else None
    speed = _tokens_per_second(spec, model, store, owner=owner)
    operations = tuning_cost.operations(spec, tuned, rows) if rows is not None else None
    seconds = None
    if rows is not None and operations is not None:
        seconds = _seconds(work, tuned, rows, operations, speed=speed, rate=rate)
    is_gpu = worker is not None and worker.has_gpu
    return TrainingEstimate(
        layers=len(tuned.shapes),
        trained_parameters=tuning_cost.trained_parameters(spec, tuned),
        trainings=tuning_cost.trainings(spec),
        steps=rows.steps if rows is not None else None,
        tokens=rows.tokens if rows is not None else None,
        base_bytes=tuning_cost.base_bytes(spec, tuned),
        memory_bytes=max(
            tuning_cost.memory_bytes(spec, tuned, rows or _fullest(spec)),
            _compression_bytes(work, tuned, found.weights),
        ),
        scratch_bytes=scratch_bytes(model),
        operations=operations,
        tokens_per_second=speed,
        seconds=seconds,
        gpu_minutes=seconds / 60 if seconds is not None and is_gpu else None,
    )


def _workload(work: FinetuneWork, found: Examination) -> Workload | None:
    data, judged = found.data, found.judged
    if data is None:
        return None
    return tuning_cost.workload(
        work.tuning,
        rows=data.rows,
        characters=data.characters,
        validation_characters=judged.characters if judged is not None else None,
        longest=data.longest_characters,
    )


def _fullest(spec: TuningSpec) -> Workload:
    """Return the largest pass there can be, where nothing is known of the rows."""
    return Workload(1, 1, 1, 1, spec.batch.size * spec.data.window, is_counted=False)


def _compression_bytes(work: FinetuneWork, tuned: TunedModel, weights: Weights | None) -> int:
    recipe = _recipe(work)
    if recipe is None or weights is None:
        return 0
    anatomy = weights.anatomy
    return cost.memory_bytes(
        recipe,
        largest_block=anatomy.largest_block,
        input_widths=anatomy.input_widths,
        hidden_size=tuned.hidden_size,
    )


def _recipe(work: FinetuneWork) -> Recipe | None:
    """Return what compresses the model first, with no more calibration than its text holds."""
    start = work.tuning.start
    if not isinstance(start, RecipeStart):
        return None
    text = work.calibration.text if work.calibration is not None else None
    text_bytes = len(text.encode()) if text is not None else CALIBRATION_TEXT.stat().st_size
    return cost.fitted(start.recipe, text_bytes=text_bytes, longest_window=None)


def _seconds(
    work: FinetuneWork,
    tuned: TunedModel,
    rows: Workload,
    operations: float,
    *,
    speed: float | None,
    rate: float | None,
) -> float | None:
    spec, recipe, before = work.tuning, _recipe(work), 0.0
    if recipe is not None and rate is not None:
        before = cost.seconds(cost.operations(recipe, tuned.shapes), rate)
    if speed is not None:
        judged = _FORWARD_SHARE * tuning_cost.evaluations(spec, rows) * rows.validation_tokens
        return before + tuning_cost.trainings(spec) * (rows.tokens + judged) / speed
    return None if rate is None else before + cost.seconds(operations, rate)


def _tokens_per_second(spec: TuningSpec, model: ResolvedModel, store: JobReading, *, owner: str) -> float | None:
    earlier = JobFilter(owner=owner, kind="finetune", states=(JobState.SUCCEEDED,), model_id=model.model_id)
    page = store.list(earlier, limit=HISTORY)
    alike = [job.id for job in page.jobs if isinstance(job.work, FinetuneWork) and _way(job.work.tuning) == _way(spec)]
    speeds = [speed for job_id in alike if (speed := _speed(store.report(job_id))) is not None]
    return statistics.median(speeds) if speeds else None


def _way(spec: TuningSpec) -> tuple[object, ...]:
    """Return what the speed of a token depends on most, beside the model."""
    return isinstance(spec.start, LoRAStart), spec.precision, spec.batch.gradient_checkpointing


def _speed(report: Mapping[str, Any]) -> float | None:
    try:
        rows = [row for cell in report["cells"] for row in cell["rows"]]
        seconds = sum(row["seconds"] for row in rows)
        return float(sum(row["tokens"] for row in rows) / seconds) if seconds else None
    except (KeyError, TypeError):
        return None  # a report of another version says nothing here, and the others still do
