"""The result of a fine-tuning: written in the form that was asked for, read back, judged and reported."""

from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from srr_core.checkpoint.index import read_json
from srr_core.exporters.export import export
from srr_core.formats.adapter import ADAPTER_CONFIG
from srr_core.formats.artifact import open_artifact
from srr_core.models.architecture import silent_loading
from srr_core.pipeline.compress import compress
from srr_core.pipeline.dense_merge import merge_dense
from srr_core.pipeline.judging import RELOAD_TOKENS
from srr_core.pipeline.memory import may_reload, peak_memory_bytes
from srr_core.pipeline.plan import core_version
from srr_core.pipeline.reporting import REPORTED_PACKAGES
from srr_core.pipeline.tuning_cells import BaseFolder, TuningCell
from srr_core.pipeline.tuning_plan import TuningPlan
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import MergedSpec
from srr_core.recipe.tuning import AdapterResult, MergedResult
from srr_core.recipe.tuning_tasks import metric_of
from srr_core.report import Environment, SourceReport
from srr_core.runtime import load
from srr_core.runtime.training import trained_parameters
from srr_core.tuners.folders import appearing, is_artifact
from srr_core.tuners.grid import rates_of
from srr_core.tuners.kept_start import write_kept_base
from srr_core.tuners.opening import objective_for
from srr_core.tuners.report import CellReport, NeutralReport, StartReport, TuningReport
from srr_core.tuners.result import write_kept, write_tuned
from srr_core.tuners.slowing import COMPRESSION_REPORT, compression_report
from srr_core.tuners.start import load_dense, open_start
from srr_core.verification.reload import verify_logits, verify_structure

_TUNED = "tuned"
"""In the work of a run: the result as base and adapter, where another form is made of it."""
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def write_result(plan: TuningPlan, base: BaseFolder, cell: TuningCell, checkpoint: Path, work: WorkFolder) -> None:
    """Write a checkpoint as the run's artifact, in the form the specification asks for.

    Raises:
        VerificationError: the base that was written is not the one that was trained on.
        ExportError: the form cannot hold it.
    """
    wanted = plan.spec.result
    if isinstance(wanted, AdapterResult):
        _write_tuned(plan, base, cell, checkpoint, work.artifact)
        return
    tuned = work.path / _TUNED
    with appearing(tuned) as partial:
        _write_tuned(plan, base, cell, checkpoint, partial)
    work.artifact.rmdir()  # the steps below make it themselves
    if isinstance(wanted, MergedResult):
        _merge(base, tuned, work.artifact, wanted.dtype)
        return
    merged = work.path / "merged"
    if not merged.exists():
        # In float32: what is compressed again shall not be rounded in between.
        _merge(base, tuned, merged, "float32")
    assert plan.calibration_text is not None  # noqa: S101  # the plan refuses this result without it
    compress(
        merged,
        wanted.recipe.model_copy(update={"evaluation": None}),
        work.artifact,
        calibration_text=plan.calibration_text,
        model_id=plan.model_id,
        artifact_id=plan.artifact_id,
        device=plan.device.type,
    )


def write_kept_checkpoints(plan: TuningPlan, base: BaseFolder, cell: TuningCell, work: WorkFolder) -> tuple[int, ...]:
    """Put the checkpoints of a training beside its result, where that is asked for, and return their steps."""
    if not plan.spec.checkpoints.publish:
        return ()
    checkpoints, artifact_id = cell.checkpoints(), plan.artifact_id
    if not isinstance(plan.spec.result, AdapterResult):
        write_kept_base(work.path / _TUNED, work.artifact)
        artifact_id = None  # what lies there has L·R in it, and whoever put them on it would add them twice
    write_kept(cell.start, checkpoints, work.artifact, digest=base.digest, artifact_id=artifact_id)
    return tuple(checkpoints)


def evaluate_result(plan: TuningPlan, folder: Path) -> dict[str, float]:
    """Return the validation scores of a result as it is read back from disk."""
    model = _reloaded(plan, folder)
    objective, _ = objective_for(model, plan.dataset, plan.spec, plan.tokenizer, stops=plan.stops)
    with torch.random.fork_rng(devices=[plan.device] if plan.device.type == "cuda" else []):
        torch.manual_seed(plan.spec.seed)
        return objective.evaluate(model.eval(), plan.dataset.validation, device=plan.device, check=lambda: None)


def verify_result(plan: TuningPlan, folder: Path) -> tuple[str, ...]:
    """Check that stock tools find every tensor's place and, where memory allows it, compute the same outputs.

    Returns:
        What the report must say.
    Raises:
        VerificationError: the artifact would not load, or not be what was trained.
    """
    if not is_artifact(folder):
        return ()
    verify_structure(folder)
    if not may_reload(open_artifact(folder).num_parameters):
        return ("reloading the whole model with stock tools was not tried: it would take more memory than the run",)
    ids = torch.tensor([list(plan.dataset.validation[0].ids[:RELOAD_TOKENS])])
    check = verify_logits(folder, ids)
    return (f"reloaded: outputs within {check.difference:.1e} of the dense sum",)


def describe_start(plan: TuningPlan, base: BaseFolder, cell: TuningCell) -> StartReport:
    """Return where the training of a cell began."""
    model = open_start(cell.start, device=torch.device("cpu"), dtype=plan.dtype)
    trained = [parameter for _, parameter in trained_parameters(model)]
    own = {id(parameter) for parameter in trained}
    frozen = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own]
    layers = compression_report(cell.start).layers if (cell.start / COMPRESSION_REPORT).exists() else ()
    overlaps = [layer.preserved_overlap for layer in layers if layer.preserved_overlap is not None]
    preserves = bool(layers) and not base.facts.is_fresh
    return StartReport(
        kind=plan.spec.start.kind,
        is_fresh=base.facts.is_fresh,
        rank=int(read_json(cell.start / ADAPTER_CONFIG)["r"]),
        base_sha256=base.digest,
        trained_parameters=sum(parameter.numel() for parameter in trained),
        frozen_bytes=sum(tensor.nbytes for tensor in frozen),
        mean_preserved_rank=fmean(layer.preserved_rank for layer in layers) if preserves else None,
        mean_preserved_overlap=fmean(overlaps) if preserves and overlaps else None,
    )


def build_report(
    plan: TuningPlan,
    start: StartReport,
    cells: list[CellReport],
    chosen: CellReport,
    *,
    scores: dict[str, float],
    neutral: NeutralReport | None,
    seconds: dict[str, float],
    kept: tuple[int, ...],
    notes: tuple[str, ...],
) -> TuningReport:
    """Return the whole result of a run."""
    metric, is_higher_better = metric_of(plan.dataset.task)
    return TuningReport(
        source=SourceReport(
            id=plan.model_id,
            sha=plan.revision,
            architecture=str((plan.config.get("architectures") or ["unknown"])[0]),
            dtype=str(plan.config.get("dtype") or plan.config.get("torch_dtype") or "unknown"),
        ),
        spec=plan.spec,
        start=start,
        data=plan.dataset.report,
        metric=metric,
        is_higher_better=is_higher_better,
        start_scores=chosen.evaluations[0].scores,
        scores=scores,
        cells=tuple(cells),
        rates=rates_of(cells),
        chosen=(chosen.learning_rate, chosen.seed),
        neutral=neutral,
        environment=Environment(
            core_version=core_version(),
            versions={package: version(package) for package in REPORTED_PACKAGES},
            device=torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            peak_memory_bytes=peak_memory_bytes(),
        ),
        seconds=seconds,
        kept=kept,
        notes=(*plan.notes, *_notes(plan, start, cells, chosen), *notes),
    )


def _notes(plan: TuningPlan, start: StartReport, cells: list[CellReport], chosen: CellReport) -> list[str]:
    metric, is_higher_better = metric_of(plan.dataset.task)
    notes = []
    before, after = chosen.evaluations[0].scores[metric], chosen.best_score
    if plan.dataset.report.steps == 0:
        notes.append("trained nothing: this is the start as it was, measured and published")
    elif after is not None and (after <= before if is_higher_better else after >= before):
        notes.append(f"no evaluation was better than the start ({metric} {before:.4g}): training did not help")
    notes += [
        f"training diverged at learning rate {cell.learning_rate:g} with seed {cell.seed}"
        for cell in cells
        if cell.end == "diverged"
    ]
    if len({cell.learning_rate for cell in cells}) > 1:
        notes.append("the learning rate was chosen on the validation examples, so its score there is a little too good")
    if plan.spec.slowing.kind in {"gradient", "learning-rate"} and start.mean_preserved_overlap is not None:
        notes.append(
            f"the first k ranks, which are slowed, span {start.mean_preserved_overlap:.2f} of the preserved directions"
        )
    if plan.spec.slowing.kind == "gradient":
        notes.append(
            "slowing 'gradient' multiplies gradients of the preserved ranks, which AdamW divides out again: it changes "
            "nothing that can be measured; 'learning-rate' is what shortens their steps"
        )
    return notes


def _write_tuned(plan: TuningPlan, base: BaseFolder, cell: TuningCell, checkpoint: Path, folder: Path) -> None:
    write_tuned(cell.start, checkpoint, folder, digest=base.digest, artifact_id=plan.artifact_id, layers=base.layers)


def _merge(base: BaseFolder, tuned: Path, destination: Path, dtype: str) -> None:
    if base.is_packed:
        export(tuned, destination, MergedSpec.model_validate({"dtype": dtype}))
        return
    with appearing(destination) as partial:
        merge_dense(tuned, partial, base.layers, dtype=_DTYPES[dtype])


def _reloaded(plan: TuningPlan, folder: Path) -> Any:
    if (folder / ADAPTER_CONFIG).exists():
        return open_start(folder, device=plan.device, dtype=plan.dtype)
    with silent_loading():
        if is_artifact(folder):
            return load(folder, adapter=None, dtype=plan.dtype, device=plan.device)
        return load_dense(folder, plan.dtype).to(plan.device)  # type: ignore[arg-type]  # transformers wraps `to`
