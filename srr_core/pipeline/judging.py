"""What is written, read back: compared bit for bit with what was computed, loaded by stock tools, and measured."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from srr_core.calibration.dataset import TokenWindows
from srr_core.errors import EvaluationError, VerificationError
from srr_core.evaluators import EVALUATORS, Evaluator, ModelPair
from srr_core.evaluators.sampling import SampledMean, mean_of_windows
from srr_core.evaluators.similarity.pooling import MODULES_FILE, pool, read_pooling
from srr_core.evaluators.tokens import TokenScores, Variants
from srr_core.formats.artifact import open_artifact
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.pipeline.baselines import Baseline, BaselineWriter, planned_bits
from srr_core.pipeline.memory import may_reload
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.recipe.stages import Stage
from srr_core.report import BaselineReport, Measurement
from srr_core.verification.carried import verify_carried
from srr_core.verification.dense_view import DenseView
from srr_core.verification.reload import LogitCheck, verify_logits, verify_structure
from srr_core.verification.verify import ExpectedLayer, verify_artifact

RELOAD_TOKENS = 32


def verify_written(
    plan: RunPlan, artifact: Path, expected: Sequence[ExpectedLayer], monitor: RunMonitor
) -> tuple[str, ...]:
    """Check that an artifact holds what was computed, and that its loaders compute the same with it.

    Returns:
        What the report must say.
    Raises:
        VerificationError: the first difference.
    """
    verify_carried(plan.source, artifact, plan.calibration.ids[0])
    return verify_weights(plan, artifact, expected, monitor)


def verify_weights(
    plan: RunPlan, artifact: Path, expected: Sequence[ExpectedLayer], monitor: RunMonitor
) -> tuple[str, ...]:
    """Do as `verify_written` does for the weights alone."""
    with monitor.stage(Stage.VERIFY, len(expected)):
        verify_artifact(artifact, expected, on_layer=monitor.stepper(Stage.VERIFY))
        verify_structure(artifact)
        parameters = sum(entry.num_bytes // entry.dtype.itemsize for entry in plan.weights.entries.values())
        if not may_reload(parameters):
            return (
                "reloading the whole model was not tried: it would take more memory than the run itself; every layer "
                "was read back and compared bit for bit, and has its place in the stock model",
            )
        check = verify_logits(artifact, plan.calibration.ids[:1, :RELOAD_TOKENS])
    loader = (
        "stock transformers" if open_artifact(artifact).layout.stock_loadable else "our loader, which this layout needs"
    )
    pooled = () if plan.architecture.predicts_tokens else compare_pooled(plan.source, artifact, check)
    return (f"reloaded with {loader}: outputs within {check.difference:.1e} of Q + L·R", *pooled)


def compare_pooled(source: Path, artifact: Path, check: LogitCheck) -> tuple[str, ...]:
    """Compare the one vector that users of an embedding model take, each by the files that lie beside it.

    Raises:
        VerificationError: the vectors differ.
    """
    if not (source / MODULES_FILE).is_file():
        return ()
    mask = torch.ones(check.wanted.shape[:2], dtype=torch.int64)
    try:
        poolings = read_pooling(source), read_pooling(artifact)
    except EvaluationError as error:
        return (f"pooled vectors were not compared: {error}",)
    states = (check.wanted, check.found)
    wanted, found = (pool(hidden, mask, pooling) for hidden, pooling in zip(states, poolings, strict=True))
    # No way of pooling makes the largest error of hidden states larger, but the sum over the root of the length.
    allowed = check.tolerance * check.wanted.abs().max() * mask.shape[1] ** 0.5
    if found.shape != wanted.shape or not bool((found - wanted).abs().max() <= allowed):
        raise VerificationError("the artifact pools its hidden states into another vector than its source")
    ways = torch.nn.functional.normalize(found, dim=-1) - torch.nn.functional.normalize(wanted, dim=-1)
    difference = float(ways.norm())
    return (f"pooled vectors ({' + '.join(poolings[0].modes)}) within {difference:.1e} of those of Q + L·R",)


def evaluate_written(
    plan: RunPlan, folder: Path, monitor: RunMonitor, *, stage: Stage = Stage.EVALUATE
) -> tuple[Measurement, ...]:
    """Measure an artifact beside its source by the evaluators of the recipe; nothing where there is no text for it.

    Args:
        stage: That the time counts to.
    """
    return evaluate_beside(plan, folder, [], monitor, stage=stage)[0]


def evaluate_beside(
    plan: RunPlan,
    folder: Path,
    baselines: Sequence[Baseline],
    monitor: RunMonitor,
    *,
    stage: Stage = Stage.EVALUATE,
) -> tuple[tuple[Measurement, ...], tuple[BaselineReport, ...]]:
    """Measure an artifact and the baselines of its run; nothing where there is no text for it.

    Args:
        stage: That the time counts to, except for that of the baselines.
    Raises:
        UnsupportedModelError: the model's class keeps experts where no baseline can be put.
    """
    windows, spec = plan.evaluation, plan.recipe.evaluation
    if windows is None or spec is None:
        return (), ()
    transposed = frozenset(layer.name for layer in plan.layers.layers if layer.is_transposed and not layer.is_stacked)
    artifact = open_artifact(folder)
    evaluators = [EVALUATORS.build(evaluator) for evaluator in spec.evaluators]
    writer = BaselineWriter(plan, plan.architecture.model)
    with monitor.stage(stage, 2 * len(plan.layers.blocks)):
        pair = ModelPair(
            source=BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device),
            compressed=BlockwiseModel(
                Architecture(plan.source),
                DenseView(artifact, transposed=transposed),
                plan.layers.in_artifact(),
                plan.device,
            ),
            source_folder=plan.source,
            artifact=folder,
            windows=windows,
            batch_size=spec.batch_size,
            paired_windows=max(evaluator.paired_windows for evaluator in evaluators),
            variants=Variants(
                writers=[functools.partial(writer.write, baseline) for baseline in baselines],
                timed=functools.partial(monitor.timed, Stage.BASELINES) if baselines else nullcontext,
            ),
            after_block=monitor.stepper(stage),
        )
        measurements = tuple(row for evaluator in evaluators for row in evaluator.measure(pair))
        if not baselines or not pair.paired_windows:
            return measurements, ()
        rows = [
            _measured(evaluators, scores, windows.first(len(scores.divergences))) for scores in pair.tokens.variants
        ]
        gaps = [mean_of_windows(pair.tokens.divergences - scores.divergences) for scores in pair.tokens.variants]
    return measurements, tuple(map(_reported, baselines, rows, gaps))


def _measured(
    evaluators: Sequence[Evaluator[Any]], scores: TokenScores, windows: TokenWindows
) -> tuple[Measurement, ...]:
    return tuple(row for evaluator in evaluators for row in evaluator.measure_variant(scores, windows))


def _reported(baseline: Baseline, rows: tuple[Measurement, ...], gap: SampledMean) -> BaselineReport:
    layers = [layer.record.report for layer in baseline.layers()]
    return BaselineReport(
        recipe=baseline.recipe,
        bits_per_weight=planned_bits(baseline.plan),
        size_bytes=baseline.size_bytes(),
        mean_output_error=fmean(layer.output_error for layer in layers) if layers else 0.0,
        measurements=rows,
        divergence_gap=gap.mean,
        divergence_gap_error=gap.standard_error,
        seconds=round(sum(layer.seconds for layer in layers), 3),
    )
