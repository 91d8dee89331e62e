"""The report of a run, from the records of its layers."""

import math
from collections.abc import Mapping
from importlib.metadata import version
from statistics import fmean

import torch

from srr_core.pipeline.layers import finished_layers
from srr_core.pipeline.memory import peak_memory_bytes
from srr_core.pipeline.plan import RunPlan, core_version
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.report import (
    BaselineReport,
    BitsPerWeight,
    BudgetReport,
    Environment,
    KeptTensor,
    LayerReport,
    Measurement,
    RepairReport,
    Report,
    SizeBytes,
    SourceReport,
)

REPORTED_PACKAGES = ("torch", "transformers", "safetensors", "compressed-tensors", "peft", "tokenizers")


def build_report(
    plan: RunPlan,
    work: WorkFolder,
    compressed_bytes: int,
    measurements: tuple[Measurement, ...],
    seconds: Mapping[str, float],
    *,
    unused: Mapping[str, str],
    budget: BudgetReport | None = None,
    baselines: tuple[BaselineReport, ...] = (),
    repair: RepairReport | None = None,
    notes: tuple[str, ...],
) -> Report:
    """Return the whole result of a run."""
    layers = tuple(record.report for _, record in finished_layers(plan, work))
    kept = {plan.layers.stored_names[name]: reason for name, reason in plan.layers.kept.items()}
    kept |= {f"{name}.weight": reason for name, reason in unused.items()}
    return Report(
        source=SourceReport(
            id=plan.model_id,
            sha=plan.revision,
            architecture=plan.architecture.name,
            dtype=_source_dtype(plan),
        ),
        recipe=plan.recipe,
        bits_per_weight=_bits(plan, work, layers),
        size_bytes=SizeBytes(source=plan.weights.total_bytes(), compressed=compressed_bytes),
        mean_output_error=fmean(layer.output_error for layer in layers) if layers else 0.0,
        measurements=measurements,
        calibration=plan.calibration.describe(),
        evaluation_seen=plan.evaluation.share_within(plan.calibration) if plan.evaluation and measurements else 0.0,
        layers=layers,
        budget=budget,
        baselines=baselines,
        repair=repair,
        kept=tuple(KeptTensor(name=name, reason=reason) for name, reason in kept.items()),
        is_stock=plan.layout.stock_loadable,
        environment=environment_of(plan.device),
        seconds=dict(seconds),
        notes=notes,
    )


def environment_of(device: torch.device) -> Environment:
    """Return what numbers on a device are computed with."""
    return Environment(
        core_version=core_version(),
        versions={package: version(package) for package in REPORTED_PACKAGES},
        device=_device_name(device),
        threads=torch.get_num_threads(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _bits(plan: RunPlan, work: WorkFolder, layers: tuple[LayerReport, ...]) -> BitsPerWeight:
    weights = [layer.shape[0] * layer.shape[1] for layer in layers]
    count = max(sum(weights), 1)
    total = sum(layer.bits_per_weight * size for layer, size in zip(layers, weights, strict=True)) / count
    recipes = {layer.name: plan.recipe_of(layer) for layer in plan.layers.layers}
    quantized = (
        math.fsum(
            recipes[layer.name].quantizer.bits_per_weight * size for layer, size in zip(layers, weights, strict=True)
        )
        / count
    )
    stored = 0
    for index, layer in enumerate(plan.layers.layers):
        found = work.finished(index, layer.name)
        stored += sum(entry.num_bytes for entry in found.tensors.values()) if found else 0
    return BitsPerWeight(quantized=quantized, low_rank=total - quantized, total=total, stored=8 * stored / count)


def _source_dtype(plan: RunPlan) -> str:
    sizes: dict[str, int] = {}
    for entry in plan.weights.entries.values():
        name = str(entry.dtype).removeprefix("torch.")
        sizes[name] = sizes.get(name, 0) + entry.num_bytes
    return max(sizes, key=lambda name: sizes[name])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
