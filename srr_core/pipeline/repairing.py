"""L·R and scales of an artifact learned from its source, the packed model as a whole, and the artifact written anew.

The teacher is not loaded beside the pupil: its last hidden states come out of one walk over its blocks, are held in
16 bits, and pass its head a micro-batch at a time.

Memory: the packed model with a byte per weight, its embeddings and head twice, four times the factors in float32, what
one micro-batch leaves for the backward pass, its logits three times, and the teacher's hidden states.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from srr_core.calibration.dataset import TokenWindows
from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.index import INDEX_NAME
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import ShardPlan, copy_tensors, write_tensors
from srr_core.errors import RecipeError
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.formats.artifact import Artifact, open_artifact
from srr_core.formats.artifact_files import ADAPTER_DTYPE, is_expert
from srr_core.formats.grid import scale_dtype
from srr_core.formats.stored_forms import read_marker
from srr_core.learning.distillation import Course, Pupil, distill
from srr_core.learning.scales import ScaledLinear
from srr_core.models.architecture import silent_loading
from srr_core.pipeline.judging import evaluate_written
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.teacher import LORA, Teacher, base_of
from srr_core.recipe import IntegerSpec, RepairSpec
from srr_core.recipe.repair import Part
from srr_core.recipe.stages import Stage
from srr_core.report import RepairReport
from srr_core.runtime import load
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.training import names_in_model, trained_parameters
from srr_core.tuners.folders import link_files
from srr_core.types import IntegerTensor
from srr_core.verification.digest import layer_digest
from srr_core.verification.verify import ExpectedLayer

_SCALE = "weight_scale"
_FACTOR = ".factor"
_NOT_CARRIED = frozenset({INDEX_NAME, "report.json", "recipe.json", "README.md"})
"""Files of an artifact that say what it was before."""


@dataclass(frozen=True)
class Repaired:
    """An artifact that was written anew."""

    report: RepairReport
    layers: tuple[ExpectedLayer, ...]
    """What its files must hold."""
    num_bytes: int
    """Of all its weights."""
    notes: tuple[str, ...]


def repair(plan: RunPlan, artifact: Path, destination: Path, folder: Path, monitor: RunMonitor) -> Repaired:
    """Repair the artifact of a plan's source, write it to another folder, and measure how it was before.

    Args:
        plan: With windows to learn from.
        artifact: Not modified.
        destination: An empty folder.
        folder: Where checkpoints are kept; what is there is gone on from.
    Raises:
        RecipeError: there is nothing that could learn.
        StopRequested: the caller asked to stop.
    """
    opened, spec = open_artifact(artifact), _spec(plan)
    folder.mkdir(exist_ok=True)
    with silent_loading():
        model = _open(opened, plan.device)
    scaled = _let_scales_learn(model, opened) if "scales" in spec.parts else {}
    parameters = _parameters(model, spec)
    if not parameters:
        raise RecipeError(
            "there is nothing to repair: the artifact has no L·R that is asked for, and its scales cannot learn; give "
            "the recipe a rank, or a grid of integers"
        )
    before = evaluate_written(plan, artifact, monitor, stage=Stage.REPAIR)
    report = _learned(plan, model, parameters, folder, monitor).model_copy(update={"before": before})
    learned = folder / "learned.safetensors"
    write_tensors(learned, _stored(model, opened, scaled, parameters))
    repaired = _overlaid(opened, read_header(learned))
    return Repaired(
        report,
        tuple(ExpectedLayer(name, _digest(repaired, name)) for name in repaired.module_names()),
        _write(repaired, destination),
        _notes(report, opened, scaled, spec),
    )


def _learned(
    plan: RunPlan, model: nn.Module, parameters: Mapping[str, nn.Parameter], folder: Path, monitor: RunMonitor
) -> RepairReport:
    """Leave a model in the best state that was found, and return how it was found."""
    began = time.perf_counter()
    spec, windows = _spec(plan), _windows(plan)
    learned_from, held_out = _parted(len(windows.ids), spec)
    course = Course(
        num_windows=len(learned_from),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        warm_up_steps=spec.warm_up_steps,
        evaluation_steps=spec.evaluation_steps,
        patience=spec.patience,
        seed=plan.recipe.seed,
    )
    looks = 1 + -(-course.steps // course.evaluation_steps)
    with monitor.stage(Stage.REPAIR, len(plan.layers.blocks) + looks):
        teacher = Teacher(plan, windows, monitor)
        pupil = Pupil(
            parameters,
            _rates(parameters, spec),
            learn=lambda chosen: teacher.learn(model, [learned_from[number] for number in chosen]),
            judge=lambda: teacher.judge(model, held_out, parameters),
        )
        with teacher.ready():
            transcript = distill(
                pupil,
                course,
                folder / "checkpoint.safetensors",
                check=monitor.check,
                on_evaluation=lambda step, loss: monitor.advance(
                    Stage.REPAIR, metrics={"step": float(step), "held_out_loss": loss}
                ),
            )
    is_there: dict[Part, bool] = {
        "low_rank": any(LORA in name for name in parameters),
        "scales": any(name.endswith(_FACTOR) for name in parameters),
    }
    assert transcript.end != ""  # noqa: S101  # it has ended
    return RepairReport(
        loss="divergence" if teacher.predicts else "hidden",
        parts=tuple(part for part, has_it in is_there.items() if has_it),
        parameters=sum(parameter.numel() for parameter in parameters.values()),
        windows=len(learned_from),
        held_out_windows=len(held_out),
        start_loss=transcript.start_loss,
        best_loss=transcript.loss,
        steps=transcript.step,
        best_step=transcript.best_step,
        end=transcript.end,
        seconds=round(time.perf_counter() - began, 3),
    )


def _spec(plan: RunPlan) -> RepairSpec:
    assert plan.recipe.repair is not None  # noqa: S101  # the caller looked
    return plan.recipe.repair


def _windows(plan: RunPlan) -> TokenWindows:
    assert plan.repair is not None  # noqa: S101  # a recipe with a repair has windows for it
    return plan.repair


def _parted(count: int, spec: RepairSpec) -> tuple[list[int], list[int]]:
    """Return the windows to learn from, and those that are held out, evenly spread."""
    wanted = max(1, round(count * spec.held_out))
    held_out = sorted({(2 * number + 1) * count // (2 * wanted) for number in range(wanted)})
    return [number for number in range(count) if number not in set(held_out)], held_out


def _open(artifact: Artifact, device: torch.device) -> nn.Module:
    options: dict[str, Any] = {"device": device, "dtype": torch.float32, "trainable": True}
    model = (
        load(artifact.directory, **options)
        if artifact.adapter is not None
        else load(artifact.directory, adapter=None, **options)
    )
    return cast(nn.Module, model).eval()  # no dropout: the teacher had none


def _let_scales_learn(model: nn.Module, artifact: Artifact) -> dict[str, ScaledLinear]:
    """Replace the packed layers whose scales can learn; return them by their names in the files."""
    paths = read_marker(artifact.config["quantization_config"], file="config.json").paths
    base, found = base_of(model), {}
    for name in artifact.module_names():
        spec = artifact.layout.of(name).spec
        if is_expert(name) or not isinstance(spec.grid_options, IntegerSpec) or spec.uniform_grid is None:
            continue
        path = paths.get(name, name)
        module = base.get_submodule(path)
        owner, leaf = (path, "base_layer") if hasattr(module, "base_layer") else path.rpartition(".")[::2]
        packed = getattr(base.get_submodule(owner), leaf)
        assert isinstance(packed, PackedLinear)  # noqa: S101  # the loader put it there
        quantized = packed.quantized()
        assert isinstance(quantized, IntegerTensor)  # noqa: S101  # the grid says so
        scaled = ScaledLinear(quantized, scale_dtype=scale_dtype(spec.uniform_grid), bias=packed.bias)
        setattr(base.get_submodule(owner), leaf, scaled)
        found[name] = scaled
    return found


def _parameters(model: nn.Module, spec: RepairSpec) -> dict[str, nn.Parameter]:
    """Return what learns, by name; everything else is frozen."""
    found = {}
    for name, parameter in trained_parameters(model):
        is_wanted = name.endswith(_FACTOR) or (LORA in name and "low_rank" in spec.parts)
        parameter.requires_grad_(is_wanted)
        if is_wanted:
            found[name] = parameter
        if is_wanted and bool((parameter == 0).any()):
            _keep_zeros(parameter)
    return found


def _keep_zeros(parameter: nn.Parameter) -> None:
    """Let what is zero stay zero: the factors of fused experts have no place for L of one part times R of another."""
    is_used = parameter.detach() != 0
    parameter.register_hook(lambda gradient: gradient * is_used)  # type: ignore[no-untyped-call]  # torch's own


def _rates(parameters: Mapping[str, nn.Parameter], spec: RepairSpec) -> dict[str, float]:
    return {
        name: spec.learning_rate * float(parameter.detach().square().mean().sqrt())
        if LORA in name
        else spec.scale_learning_rate
        for name, parameter in parameters.items()
    }


def _stored(
    model: nn.Module,
    artifact: Artifact,
    scaled: Mapping[str, ScaledLinear],
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Tensor]:
    """Return the tensors that have changed, by their names in the files."""
    tensors = {
        f"{name}.{_SCALE}": artifact.layout.layer_tensors(name, layer.tensor())[f"{name}.{_SCALE}"]
        for name, layer in scaled.items()
    }
    factors = {name: parameter.detach() for name, parameter in parameters.items() if LORA in name}
    if artifact.adapter is not None and factors:
        names = names_in_model(base_of(model), artifact.adapter.entries, factors)
        tensors |= {name: factors[names[name]].to(ADAPTER_DTYPE) for name in artifact.adapter.entries}
    return tensors


def _overlaid(artifact: Artifact, learned: Mapping[str, TensorEntry]) -> Artifact:
    """Return an artifact with some of its tensors read from another file."""

    def over(reader: CheckpointReader) -> CheckpointReader:
        entries = {name: learned.get(name, entry) for name, entry in reader.entries.items()}
        return CheckpointReader(artifact.directory, entries=entries)

    adapter = None if artifact.adapter is None else over(artifact.adapter)
    return replace(artifact, weights=over(artifact.weights), adapter=adapter)


def _digest(artifact: Artifact, name: str) -> str:
    layer = artifact.read_layer(name)
    return layer_digest(layer.quantized, layer.left, layer.right)


def _write(artifact: Artifact, destination: Path) -> int:
    shards = ShardPlan()
    for name, entry in artifact.weights.entries.items():
        shards.add(name, entry)
    total = shards.write(destination)
    if artifact.adapter is not None:
        total += copy_tensors(destination / ADAPTER_WEIGHTS, artifact.adapter.entries)
    files = sorted(artifact.directory.iterdir())
    kept = (file for file in files if file.suffix != ".safetensors" and file.name not in _NOT_CARRIED)
    link_files((file for file in kept if file.is_file()), destination)
    return total


def _notes(
    report: RepairReport, artifact: Artifact, scaled: Mapping[str, ScaledLinear], spec: RepairSpec
) -> tuple[str, ...]:
    notes = ["errors of layers are those before the repair"]
    if report.best_step == 0:
        notes = ["the repair found nothing better than the start, which was kept"]
    if report.end == "diverged":
        notes.append("the repair diverged; the last good state was kept. Lower its learning rates")
    if report.loss == "hidden":
        notes.append("the model predicts no token, so the repair learned the last hidden states of its source")
    others = len(artifact.module_names()) - len(scaled)
    if "scales" in spec.parts and others:
        notes.append(
            f"the scales of {others} layers did not learn: their grid has none of its own, or they are experts"
        )
    if "low_rank" in spec.parts and "low_rank" not in report.parts:
        notes.append("there is no L·R, so scales alone learned")
    return tuple(notes)
