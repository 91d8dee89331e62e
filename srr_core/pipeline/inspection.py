"""What a compression would do, from configuration and headers alone: no weight is read."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from srr_core.calibration.dataset import load_tokenizer
from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CalibrationError, CheckpointError, RecipeError, UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.models.layers import LayerPlan, plan_layers
from srr_core.pipeline.plan import (
    calibration_windows,
    choose_layout,
    choose_targets,
    require_budget,
    require_reach,
    require_share,
)
from srr_core.pipeline.source import shown_entries
from srr_core.recipe import Recipe, cost
from srr_core.recipe.compatibility import rope_type
from srr_core.recipe.gguf_types import PLAIN_ROPE
from srr_core.runtime.plain_tensors import require_complete
from srr_core.verification.stock import reads_packed

PROBE_SIZE = 1024


@dataclass(frozen=True)
class Inspection:
    """What is known of a model before its weights are read."""

    is_supported: bool
    reason: str
    """Why not, or empty."""
    architecture: str
    rope_type: str = PLAIN_ROPE
    num_blocks: int = 0
    num_layers: int = 0
    compressed_weights: int = 0
    kept_weights: int = 0
    source_bytes: int = 0
    compressed_share: float = 0.0
    """Part of these bytes that is compressed."""
    artifact_bytes: int = 0
    """Estimated from the format's bits; padding and headers left out."""
    size_note: str | None = None
    """What must be said of a result that is hardly smaller than the source."""
    bits_per_weight_quantized: float = 0.0
    bits_per_weight_total: float = 0.0
    shapes: tuple[tuple[int, int], ...] = ()
    """(out, in) of every compressed layer."""
    all_linear: bool = True
    """False when stock tools cannot hold a layer packed; the artifact is then in our own layout."""
    has_experts: bool = False
    memory_bytes: int = 0
    """Estimated peak of a run on the CPU."""
    operations: float = 0.0
    """Estimated floating-point operations of calibration and decomposition; evaluation is not in it."""


def inspect_model(
    config_directory: Path,
    entries: Mapping[str, TensorEntry],
    recipe: Recipe,
    *,
    text_bytes: int,
    calibration_text: Path | None = None,
) -> Inspection:
    """Return what compressing a model by a recipe would mean.

    Args:
        config_directory: A folder with config.json.
        entries: Dtype and shape of every tensor of the checkpoint; the files need not be there.
        text_bytes: Size of the calibration text.
        calibration_text: The text itself, where the folder has the tokenizer too: it is then known whether the text
            is long enough, and the model has a row for every token of it.
    """
    try:
        architecture = Architecture(config_directory)
        require_budget(architecture, recipe)
        entries = shown_entries(config_directory, architecture, entries)
        require_complete(architecture.model, entries)
        plan = plan_layers(architecture, entries)
        require_share(plan, entries, recipe)
        require_reach(plan, entries, recipe)
        choose_layout(architecture, plan, recipe)
        bare = choose_targets(architecture, plan, recipe).bare
        if calibration_text is not None:
            calibration_windows(architecture, recipe, calibration_text, load_tokenizer(config_directory), [])
        run = cost.fitted(recipe, text_bytes=text_bytes, longest_window=architecture.max_sequence_length)
    except (UnsupportedModelError, CheckpointError, RecipeError, CalibrationError) as error:
        return Inspection(is_supported=False, reason=str(error), architecture="")
    layers = plan.layers
    weights = [layer.shape[0] * layer.shape[1] for layer in layers]
    of_codes = recipe.model_copy(update={"rank": 0})
    compressed = {layer.tensor for layer in layers}
    kept = [entry for name, entry in entries.items() if name not in compressed]
    source_bytes = sum(entry.num_bytes for entry in entries.values())
    kept_bytes = sum(entry.num_bytes for entry in kept)
    budget = recipe.budget
    total_bits = None if budget is None else budget.bits(weights=sum(weights), kept_bytes=kept_bytes)
    if total_bits is None:
        total_bits = sum(
            (of_codes if layer.name in bare else recipe).bits_per_weight(*layer.shape) * size
            for layer, size in zip(layers, weights, strict=True)
        )
    artifact_bytes = round(total_bits / 8) + kept_bytes
    return Inspection(
        is_supported=True,
        reason="",
        architecture=architecture.name,
        rope_type=rope_type(architecture.config.to_dict()),
        num_blocks=len(plan.blocks),
        num_layers=len(layers),
        compressed_weights=sum(weights),
        kept_weights=sum(entry.num_bytes // entry.dtype.itemsize for entry in kept),
        source_bytes=source_bytes,
        artifact_bytes=artifact_bytes,
        compressed_share=plan.compressed_share(entries),
        size_note=cost.size_note(source_bytes=source_bytes, result_bytes=artifact_bytes, kept_bytes=kept_bytes),
        bits_per_weight_quantized=recipe.quantizer.bits_per_weight,
        bits_per_weight_total=total_bits / sum(weights),
        shapes=tuple(layer.shape for layer in layers),
        all_linear=plan.all_linear and reads_packed(architecture.model),
        has_experts=any(layer.expert is not None for layer in layers),
        memory_bytes=_memory(architecture, plan, entries, run),
        operations=cost.operations(run, (layer.shape for layer in layers)),
    )


def estimate_seconds(inspection: Inspection, device: torch.device) -> float:
    """Return how long a run would take here, from the rate of one square product. Costs about a tenth of a second."""
    return cost.seconds(inspection.operations, operations_per_second(device))


def operations_per_second(device: torch.device) -> float:
    """Return the rate of one square product in float32. Costs about a tenth of a second."""
    matrix = torch.rand(PROBE_SIZE, PROBE_SIZE, device=device)
    float((matrix @ matrix).sum())  # waits for it: a GPU works behind our back
    began, rounds = time.perf_counter(), 3
    for _ in range(rounds):
        matrix = (matrix @ matrix).clamp_(0, 1)
    float(matrix.sum())
    return 2 * PROBE_SIZE**3 * rounds / (time.perf_counter() - began)


def _memory(architecture: Architecture, plan: LayerPlan, entries: Mapping[str, TensorEntry], recipe: Recipe) -> int:
    block = max(sum(entries[name].num_bytes // entries[name].dtype.itemsize for name in b.tensors) for b in plan.blocks)
    return cost.memory_bytes(
        recipe,
        largest_block=block,
        input_widths=cost.input_widths((layer.name, layer.shape[1]) for layer in plan.blocks[0].layers),
        hidden_size=int(getattr(architecture.config.get_text_config(), "hidden_size", 0)),
    )
