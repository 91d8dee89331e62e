"""A run rehearsed on a random tiny copy of its model, so that what would fail late fails before a weight is read.

What a class returns from its blocks, how its tensors are named on disk and whether stock loaders give back what was
written is found by doing it. At full size that comes after hours; on a copy of two blocks and 64 channels it takes a
second or two. The copy has to run as it is, before it says anything about the model: where it cannot be built, planned
or run, because sizes do not fit that no name tells, nothing is rehearsed.
"""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from transformers import PreTrainedConfig, PreTrainedModel

from srr_core.calibration.dataset import TokenWindows
from srr_core.errors import (
    DestinationError,
    NumericalError,
    RecipeError,
    SrrError,
    StopRequested,
    StorageError,
    UnsupportedModelError,
)
from srr_core.models.architecture import Architecture, silent_loading
from srr_core.models.layers import plan_layers
from srr_core.models.miniature import VOCABULARY, miniature
from srr_core.pipeline.assemble import assemble
from srr_core.pipeline.baselines import Baselines
from srr_core.pipeline.budgeting import sensitivities
from srr_core.pipeline.judging import evaluate_written, verify_weights
from srr_core.pipeline.layers import LayerCompressor, finished_layers
from srr_core.pipeline.plan import RunPlan, choose_layout, choose_targets
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.source import open_source
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import BudgetSpec, CalibrationSpec, EvaluationSpec, MXIntSpec, NormalFloatSpec, Recipe
from srr_core.recipe.stages import Stage
from srr_core.types import Progress, ShouldStop
from srr_core.verification.reload import outputs_of
from srr_core.verification.verify import ExpectedLayer

SMALLEST = 20_000_000
"""Parameters. A smaller model is compressed in about a minute, so that a late failure costs no more than that, and
a rehearsal would be a large part of its run."""
LARGEST_COPY = 20_000_000
"""Parameters. A configuration whose sizes have names that are not known keeps them, and is no rehearsal then."""
RANK, SEQUENCES, LENGTH, BATCH = 4, 4, 64, 2
_NOT_OF_THE_CLASS = (StopRequested, StorageError, DestinationError, NumericalError, RecipeError)
"""Failures that say nothing of the model: of the machine, of random weights, of sizes that the copy alone has."""
_log = logging.getLogger(__name__)


def rehearse(plan: RunPlan, *, should_stop: ShouldStop | None = None, smallest: int = SMALLEST) -> None:
    """Calibrate, decompose, assemble, verify and evaluate a random tiny copy of the model of a plan.

    Takes a second or two, and tens of megabytes in the folder for temporary files. The state of random generators is
    left as it was.

    Args:
        smallest: Models with fewer parameters are not rehearsed.
    Raises:
        UnsupportedModelError: the run would fail; the message names the stage and the cause.
        StopRequested: the caller asked to stop.
    """
    parameters = sum(entry.num_bytes // entry.dtype.itemsize for entry in plan.weights.entries.values())
    if parameters < smallest:
        return
    # On the CPU alone: nothing here draws from the generator of a GPU.
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        copy = _copy(plan, Path(scratch))
        if copy is not None:
            _run(plan, copy, should_stop)


def _run(plan: RunPlan, copy: RunPlan, should_stop: ShouldStop | None) -> None:
    stages = [Stage.PLAN]

    def note(progress: Progress) -> None:
        stages.append(progress.stage)

    try:
        _carry_out(copy, plan.recipe.budget, RunMonitor(note, should_stop))
    except StopRequested:
        raise
    except (*_NOT_OF_THE_CLASS, OSError, MemoryError, torch.OutOfMemoryError) as error:
        _log.warning("rehearsal_ended", extra={"stage": stages[-1].value, "reason": str(error)})
    except Exception as error:  # of a class we know nothing of: it fails in whatever way it likes
        cause = str(error) if isinstance(error, SrrError) else f"{type(error).__name__}: {error}"
        name = plan.architecture.name
        raise UnsupportedModelError(
            f"{name} cannot be compressed; a random tiny copy of it failed in the stage {stages[-1].value!r}: "
            f"{' '.join(cause.split())[:400]}"
        ) from error


def _carry_out(copy: RunPlan, budget: BudgetSpec | None, monitor: RunMonitor) -> None:
    work = WorkFolder(copy.destination, {})
    try:
        if budget is not None:
            with monitor.stage(Stage.SEARCH, 2 * len(copy.layers.blocks)):
                sensitivities(copy, budget, after_block=lambda: monitor.advance(Stage.SEARCH))
        with monitor.stage(Stage.COMPRESS, len(copy.layers.layers)):
            LayerCompressor(copy, work, monitor, Baselines(copy, work, monitor)).run()
        with monitor.stage(Stage.ASSEMBLE, 1):
            assemble(copy, work)
        layers = tuple(ExpectedLayer(layer.name, record.digest) for layer, record in finished_layers(copy, work))
        verify_weights(copy, work.artifact, layers, monitor)
        evaluate_written(copy, work.artifact, monitor)
    finally:
        work.close()


def _copy(plan: RunPlan, scratch: Path) -> RunPlan | None:
    """Return the plan of a copy that stock transformers runs, or None where there is no such copy."""
    source, recipe = scratch / "source", _recipe(plan)
    try:
        model = _random_model(plan.architecture)
        if model is None:
            return None
        windows = _windows(model)
        if not bool(torch.isfinite(outputs_of(model, windows.ids)).all()):
            return None
        with silent_loading():
            model.bfloat16().save_pretrained(source)
        architecture = Architecture(source)
        weights, _ = open_source(source, architecture)
        layers = plan_layers(architecture, weights.entries)
        layout = choose_layout(architecture, layers, recipe)
        targets = choose_targets(architecture, layers, recipe)
    except Exception as error:  # noqa: BLE001  # sizes that do not fit fail in whatever way the class likes
        _log.info("rehearsal_left_out", extra={"reason": " ".join(str(error).split())[:300]})
        return None
    return replace(
        plan,
        source=source,
        destination=scratch / "artifact",
        recipe=recipe,
        model_id="rehearsal",
        artifact_id=None,
        architecture=architecture,
        weights=weights,
        layers=layers,
        layout=layout,
        targets=targets,
        calibration=windows,
        evaluation=None if plan.evaluation is None else windows,
        repair=None,
        notes=(),
        quantizers={},
    )


def _random_model(architecture: Architecture) -> PreTrainedModel | None:
    kind: Any = getattr(transformers, architecture.name)
    config: PreTrainedConfig = miniature(architecture.config)
    with init_empty_weights():
        size = sum(parameter.numel() for parameter in kind._from_config(config).parameters())  # noqa: SLF001  # as AutoModels do
    if size > LARGEST_COPY:
        return None
    model: PreTrainedModel = kind._from_config(config, dtype=torch.float32).eval()  # noqa: SLF001  # the same
    return model


def _windows(model: Any) -> TokenWindows:
    rows = min(VOCABULARY, int(model.get_input_embeddings().weight.shape[0]))
    # The lower half holds special tokens, some of which stand for images.
    ids = torch.randint(rows // 2, rows, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(0))
    return TokenWindows(ids)


def _recipe(plan: RunPlan) -> Recipe:
    """Return a recipe whose result is of the plan's layout and as cheap as can be."""
    asked = plan.recipe
    is_native = plan.layout.stock_loadable
    batches: dict[str, Any] = {"num_sequences": SEQUENCES, "sequence_length": LENGTH, "batch_size": BATCH}
    return asked.model_copy(
        update={
            "target": "any",
            "quantizer": MXIntSpec(block_size=16) if is_native else NormalFloatSpec(block_size=32),
            "rank": min(asked.rank, RANK),
            "iterations": 1,
            "budget": None,
            "repair": None,
            "baselines": (),
            "calibration": CalibrationSpec(**batches, inputs=asked.calibration.inputs),
            "evaluation": None if asked.evaluation is None else EvaluationSpec(**batches),
            "min_share": 0.0,
        }
    )
