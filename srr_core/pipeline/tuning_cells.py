"""The trainings of a fine-tuning, one after the other, each in a folder of its own that is gone on from."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import write_json
from srr_core.models.layers import Layer
from srr_core.pipeline.tuning_plan import TuningPlan
from srr_core.recipe.tuning import GradientSlowing, LearningRateSlowing
from srr_core.recipe.tuning_tasks import metric_of
from srr_core.runtime.training import trained_parameters
from srr_core.tuners.checkpoints import Checkpoints, TrainingState, restore_parameters
from srr_core.tuners.classifier import Labels
from srr_core.tuners.folders import appearing, base_digest, dense_layers, is_artifact
from srr_core.tuners.neutral import drift
from srr_core.tuners.opening import objective_for, padding_of
from srr_core.tuners.report import CellReport, CheckpointRow, EvaluationRow, NeutralReport, StepRow
from srr_core.tuners.slowing import preserved_ranks
from srr_core.tuners.start import Facts, open_start, write_base, write_start
from srr_core.tuners.training import Cell, Material, Training

OnMetrics = Callable[[int, dict[str, float]], None]
"""Called with the steps done and the metrics of a step or of an evaluation."""
OnCheckpoint = Callable[[CheckpointRow], None]
_FACTS = "facts.json"
_CELL = "cell.json"


@dataclass(frozen=True)
class BaseFolder:
    """What every training of a run stands on."""

    path: Path
    facts: Facts
    layers: tuple[Layer, ...]
    """Of a base that is not compressed; empty where its files say so themselves."""
    digest: str

    @property
    def is_packed(self) -> bool:
        """Whether it is an artifact of ours."""
        return not self.layers


def prepare_base(plan: TuningPlan, model: Path, folder: Path) -> BaseFolder:
    """Return the base of a run, written once.

    Args:
        model: The source, or what a recipe made of it.
        folder: Of the run's work.
    """
    path, facts_file = folder / "base", folder / _FACTS
    if facts_file.exists():
        facts = Facts.model_validate(read_json(facts_file))
    else:
        with appearing(path) as partial:
            facts = write_base(model, partial, labels=_labels(plan))
        write_json(facts_file, facts.model_dump(mode="json"))
    layers = () if is_artifact(path) else dense_layers(path)
    return BaseFolder(path, facts, layers, base_digest(path, layers))


def _labels(plan: TuningPlan) -> Labels | None:
    task = plan.dataset.task
    if task.kind not in {"classification", "regression"}:
        return None
    return Labels(plan.dataset.labels, padding_of(plan.tokenizer))


class TuningCell:
    """One training of a run: its start, its checkpoints, and its report once it has ended."""

    def __init__(
        self,
        plan: TuningPlan,
        base: BaseFolder,
        folder: Path,
        number: int,
        *,
        check: Callable[[], None],
        on_metrics: OnMetrics = lambda _, __: None,
        on_checkpoint: OnCheckpoint = lambda _: None,
    ) -> None:
        self._plan = plan
        self._base = base
        self._number = number
        self._check = check
        self._on_metrics = on_metrics
        self._on_checkpoint = on_checkpoint
        self._cell = Cell(*plan.spec.cells()[number])
        self._state = TrainingState()
        self.folder = folder / "cells" / f"{number:03d}"
        self.start = self.folder / "start"
        self.notes: tuple[str, ...] = ()

    def run(self) -> CellReport:
        """Train to the end, or return what an earlier run has left.

        Raises:
            NumericalError: it diverged; `diverged` then says so for good.
            StopRequested: the caller asked to stop.
        """
        if (self.folder / _CELL).exists():
            return CellReport.model_validate(read_json(self.folder / _CELL))
        model, objective = self._opened()
        material = Material(
            windows=self._plan.dataset.training,
            validation=self._plan.dataset.validation,
            steps_per_epoch=self._plan.dataset.report.steps_per_epoch,
            steps=self._plan.dataset.report.steps,
        )
        training = Training(
            model,
            objective,
            material,
            self._plan.spec,
            self._cell,
            preserved=self._preserved(),
            folder=self.folder / "checkpoints",
            check=self._check,
            on_step=self._tell_step,
            on_evaluation=self._tell_evaluation,
            on_checkpoint=lambda path: self._tell_checkpoint(path, training.state),
        )
        self._state = training.state
        try:
            self._state = training.run()
        finally:
            self._state = training.state
        report = self._report("no better" if training.has_run_out else "finished")
        del model, training
        gc.collect()
        return report

    def diverged(self) -> CellReport:
        """Return, and keep, that the training has no result."""
        return self._report("diverged")

    def checkpoint(self, step: int) -> Path:
        """Return the checkpoint after a number of steps."""
        return self.folder / "checkpoints" / f"step-{step:08d}"

    def checkpoints(self) -> dict[int, Path]:
        """Return every checkpoint that is on disk, by the steps done; without that of the start, which is the base."""
        steps = Checkpoints(self.folder / "checkpoints", keep=1).steps()
        return {step: self.checkpoint(step) for step in steps if step > 0}

    def drift(self, checkpoint: Path) -> NeutralReport | None:
        """Return how far a checkpoint has moved from the start on the neutral text, where there is one."""
        if self._plan.neutral is None:
            return None
        model = self._model().eval()
        parameters = dict(trained_parameters(model))
        start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        restore_parameters(parameters, checkpoint)
        return drift(
            model,
            parameters,
            start,
            self._plan.neutral,
            batch_size=self._plan.spec.neutral.batch_size,
            check=self._check,
        )

    def _opened(self) -> tuple[Any, Any]:
        if not self.start.exists():
            with appearing(self.start) as partial:
                write_start(self._base.path, partial, self._base.facts, rank=self._plan.spec.rank, seed=self._cell.seed)
        model = self._model()
        if self._plan.spec.batch.gradient_checkpointing:
            model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
        plan = self._plan
        objective, self.notes = objective_for(model, plan.dataset, plan.spec, plan.tokenizer, stops=plan.stops)
        return model, objective

    def _model(self) -> Any:
        return open_start(self.start, device=self._plan.device, dtype=self._plan.dtype, dropout=self._plan.spec.dropout)

    def _preserved(self) -> dict[str, int]:
        needs = isinstance(self._plan.spec.slowing, GradientSlowing | LearningRateSlowing)
        return preserved_ranks(self.start) if needs else {}

    def _report(self, end: Literal["finished", "no better", "diverged"]) -> CellReport:
        metric, _ = metric_of(self._plan.dataset.task)
        state = self._state
        best = None if end == "diverged" else state.best_step
        scores = {row.step: row.scores[metric] for row in state.evaluations}
        report = CellReport(
            learning_rate=self._cell.learning_rate,
            seed=self._cell.seed,
            steps=state.step,
            best_step=best,
            best_score=None if best is None else scores[best],
            end=end,
            rows=tuple(state.rows),
            evaluations=tuple(state.evaluations),
        )
        write_json(self.folder / _CELL, report.model_dump(mode="json"))
        return report

    def _tell_step(self, row: StepRow) -> None:
        self._on_metrics(
            row.step,
            {
                "loss": row.loss,
                "learning_rate": row.learning_rate,
                "gradient_norm": row.gradient_norm,
                "tokens_per_second": row.tokens / row.seconds if row.seconds else 0.0,
            },
        )

    def _tell_evaluation(self, row: EvaluationRow) -> None:
        self._on_metrics(row.step, {f"validation_{name}": value for name, value in row.scores.items()})

    def _tell_checkpoint(self, path: Path, state: TrainingState) -> None:
        at_step = [row.scores for row in state.evaluations if row.step == state.step]
        self._on_checkpoint(
            CheckpointRow(
                cell=self._number,
                step=state.step,
                num_bytes=sum(file.stat().st_size for file in path.iterdir()),
                scores=at_step[-1] if at_step else {},
                is_best=state.best_step == state.step,
            )
        )
