"""What a fine-tuning would take, once its data was checked: shapes from headers, tokens from the tokenizer."""

from pathlib import Path

import torch

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.models.architecture import Architecture
from srr_core.models.layers import plan_layers
from srr_core.pipeline.inspection import operations_per_second
from srr_core.pipeline.tuning_plan import TuningPlan
from srr_core.recipe import cost, tuning_cost
from srr_core.recipe.tuning import ArtifactStart, RecipeStart
from srr_core.recipe.tuning_cost import TunedModel, Workload
from srr_core.tuners.data_report import TuningNeeds
from srr_core.tuners.folders import is_artifact
from srr_core.tuners.kept import kept_folder
from srr_core.tuners.kept_start import checkpoint_base


def inspect_tuning(plan: TuningPlan) -> TuningNeeds:
    """Return what a checked fine-tuning would take on its device; measures how fast that is, in a tenth of a second.

    A compression before it is in the time, and in the memory where it takes more.

    Raises:
        CheckpointError, UnsupportedModelError: see `plan_layers`.
    """
    spec, model, rows = plan.spec, tuned_model(plan), _workload(plan)
    rate = operations_per_second(plan.device)
    seconds = cost.seconds(tuning_cost.operations(spec, model, rows), rate)
    if isinstance(spec.start, RecipeStart) and plan.calibration_text is not None:
        text_bytes = plan.calibration_text.stat().st_size
        recipe = cost.fitted(spec.start.recipe, text_bytes=text_bytes, longest_window=None)
        seconds += cost.seconds(cost.operations(recipe, model.shapes), rate)
    return TuningNeeds(
        trained_parameters=tuning_cost.trained_parameters(spec, model),
        trainings=tuning_cost.trainings(spec),
        base_bytes=tuning_cost.base_bytes(spec, model),
        memory_bytes=tuning_cost.memory_bytes(spec, model, rows),
        seconds=seconds,
    )


def tuned_model(plan: TuningPlan) -> TunedModel:
    """Return the sizes of the model of a plan, without reading a weight."""
    hidden, vocabulary, blocks = tuning_cost.sizes_of(plan.config)
    sizes = {"hidden_size": hidden, "vocabulary": vocabulary, "blocks": blocks}
    source, adapter = _start_of(plan)
    values = adapter.stat().st_size // torch.bfloat16.itemsize if adapter.exists() else None
    entries = CheckpointReader(source, may_have_adapter=True).entries
    if is_artifact(source):
        return TunedModel(
            tuning_cost.usual_shapes(plan.config),
            vocabulary * hidden,
            **sizes,
            packed_bytes=sum(entry.num_bytes for entry in entries.values()),
            factor_values=values,
        )
    layers = plan_layers(Architecture(source), entries).layers
    compressed = {layer.tensor for layer in layers}
    kept = sum(entry.num_bytes // entry.dtype.itemsize for name, entry in entries.items() if name not in compressed)
    return TunedModel(tuple(layer.shape for layer in layers), kept, **sizes, factor_values=values)


def _start_of(plan: TuningPlan) -> tuple[Path, Path]:
    """Return the folder of the base and the file of the factors that a training begins with."""
    start = plan.spec.start
    if isinstance(start, ArtifactStart) and start.checkpoint is not None:
        return checkpoint_base(plan.source), kept_folder(plan.source, start.checkpoint) / ADAPTER_WEIGHTS
    return plan.source, plan.source / ADAPTER_WEIGHTS


def _workload(plan: TuningPlan) -> Workload:
    report = plan.dataset.report
    return tuning_cost.counted_workload(
        plan.spec,
        steps_per_epoch=report.steps_per_epoch,
        windows=report.windows,
        tokens=report.training.tokens,
        validation_tokens=report.validation.tokens,
        longest=report.training.longest,
    )
