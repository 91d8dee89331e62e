"""The loop: steps of AdamW over what is trained, evaluations between them, and a state that can be resumed at any.

Everything random is a function of the seed and the step alone: the order of an epoch, the dropout of a pass, the
sampling of an evaluation. So a run that goes on from any checkpoint, or is stopped between any two passes, ends with
the bits of one that was never disturbed. A batch's loss is the sum over its targets divided by their number in the
whole step, so neither accumulation nor several processes change what an example weighs.

transformers' own Trainer works on the same models; it is not used here because its checkpoints are not atomic, its
evaluation weighs batches and not tokens, and it cannot be stopped inside a step.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from srr_core.errors import NumericalError, StopRequested
from srr_core.recipe.tuning import ScheduleSpec, TuningSpec
from srr_core.runtime.training import trained_parameters
from srr_core.tuners.batches import Batch
from srr_core.tuners.checkpoints import Checkpoints, TrainingState
from srr_core.tuners.examples import Example
from srr_core.tuners.objectives import Check, Objective
from srr_core.tuners.packing import Window
from srr_core.tuners.report import EvaluationRow, StepRow
from srr_core.tuners.slowing import coefficients, slow_down

OnStep = Callable[[StepRow], None]
OnEvaluation = Callable[[EvaluationRow], None]
OnCheckpoint = Callable[[Path], None]


@dataclass(frozen=True)
class Material:
    """What is learned from and judged by."""

    windows: Sequence[Window]
    validation: Sequence[Example]
    steps_per_epoch: int
    steps: int


@dataclass(frozen=True)
class Cell:
    """One training of a grid."""

    learning_rate: float
    seed: int


class Training:
    """One training of one model; `run` may be called again after it was stopped, in this process or another one.

    With torch.distributed initialized, every process takes its share of each pass and ends with the same parameters;
    the first one writes.

    Args:
        model: A PeftModel from `runtime.training.attach`, on its device.
        preserved: k by layer, where the start preserves directions.
        folder: For checkpoints; those of the same training are gone on from.
        check: Raises StopRequested where the run shall end; the state is saved first.
    Raises:
        RecipeError: ranks are to be slowed that are not there.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        material: Material,
        spec: TuningSpec,
        cell: Cell,
        *,
        preserved: dict[str, int],
        folder: Path,
        check: Check,
        on_step: OnStep = lambda _: None,
        on_evaluation: OnEvaluation = lambda _: None,
        on_checkpoint: OnCheckpoint = lambda _: None,
    ) -> None:
        self._model = model
        self._objective = objective
        self._material = material
        self._spec = spec
        self._cell = cell
        self._check = check
        self._on_step = on_step
        self._on_evaluation = on_evaluation
        self._on_checkpoint = on_checkpoint
        self._parameters = dict(trained_parameters(model))
        self._device = next(iter(self._parameters.values())).device
        self._optimizer = _optimizer(self._parameters, spec, cell)
        slow_down(
            self._optimizer, self._parameters, spec.slowing, coefficients(self._parameters, spec.slowing, preserved)
        )
        (config,) = model.peft_config.values()
        self._checkpoints = Checkpoints(folder, spec.checkpoints.keep, _plain(config.to_dict()))
        self._rank, self._world = _place()
        self._forward: nn.Module = DistributedDataParallel(model) if self._world > 1 else model
        self._saved: tuple[int, int] | None = None
        """Steps and evaluations of the checkpoint that was written last."""
        self.state = TrainingState()

    def run(self) -> TrainingState:
        """Train to the end, from the latest checkpoint on, and return the last state.

        Raises:
            StopRequested: the caller asked to stop; the state is saved.
            NumericalError: a loss is not finite.
            StorageError: a checkpoint could not be written.
        """
        latest = self._checkpoints.latest()
        if latest is not None:
            self.state = self._checkpoints.restore(self._parameters, self._optimizer, latest)
            self._saved = self._progress()
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            try:
                self._train()
            except StopRequested:
                self._save()
                raise
        return self.state

    def best(self) -> Path | None:
        """Return the checkpoint of the best evaluation, or None where none gave a number."""
        return None if self.state.best_step is None else self._checkpoints.path(self.state.best_step)

    @property
    def has_run_out(self) -> bool:
        """Whether it ended because nothing got better."""
        patience = self._spec.checkpoints.patience
        return patience is not None and self.state.without_better >= patience

    def _train(self) -> None:
        every = self._spec.checkpoints.save_every
        while True:
            if self._is_evaluation(self.state.step) and not self._is_evaluated():
                self._evaluate()
            if self.state.step >= self._material.steps or self.has_run_out:
                return
            self._check()
            self._step()
            if every is not None and self.state.step % every == 0:
                self._save()

    def _step(self) -> None:
        began = time.perf_counter()
        step = self.state.step
        rate = learning_rate_factor(step, self._material.steps, self._spec.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group["full"] * rate
        windows = self._windows(step)
        passes = [self._objective.batch(some) for some in windows]
        targets = sum(batch.num_targets for batch in passes)
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for number, some in enumerate(windows):
            self._check()
            torch.manual_seed(_derived(self._cell.seed, "pass", step, number, self._rank))
            loss += self._backward(some, passes[number], targets)
        limit = self._spec.optimizer.max_gradient_norm
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), math.inf if limit is None else limit))
        loss = self._summed(loss)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NumericalError(
                f"step {step + 1}: the loss is {loss:g} and its gradient {norm:g} at learning rate "
                f"{self._cell.learning_rate:g}; take a lower one"
            )
        self._optimizer.step()
        self.state.step = step + 1
        row = StepRow(
            step=step + 1,
            loss=loss,
            learning_rate=self._cell.learning_rate * rate,
            gradient_norm=norm,
            tokens=sum(len(example) for some in windows for window in some for example in window),
            seconds=round(time.perf_counter() - began, 4),
        )
        self.state.rows.append(row)
        self._on_step(row)

    def _backward(self, windows: Sequence[Window], whole: Batch, targets: int) -> float:
        """Add the gradient of this process's share of a pass; return its part of the loss."""
        if self._world == 1:
            batch, weight = whole, 1.0
        else:
            own = windows[self._rank :: self._world]
            # Every process must go backward as often as the others; one without a share adds nothing.
            weight = 1.0 if own else 0.0
            batch = self._objective.batch(own or windows[:1])
        loss = self._objective.loss(self._forward, batch.to(self._device)) * (weight / max(targets, 1))
        # DistributedDataParallel takes the mean over processes of what is a sum.
        (loss * self._world).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return float(loss.detach())

    def _summed(self, loss: float) -> float:
        if self._world == 1:
            return loss
        total = torch.tensor(loss, dtype=torch.float64, device=self._device)
        distributed.all_reduce(total)
        return float(total)

    def _windows(self, step: int) -> list[list[Window]]:
        """Return the windows of each pass of a step."""
        epoch, within = divmod(step, self._material.steps_per_epoch)
        generator = torch.Generator().manual_seed(_derived(self._cell.seed, "epoch", epoch))
        order = torch.randperm(len(self._material.windows), generator=generator).tolist()
        size = self._spec.batch.size
        per_step = size * self._spec.batch.accumulation
        chosen = order[within * per_step : (within + 1) * per_step]
        return [
            [self._material.windows[index] for index in chosen[begin : begin + size]]
            for begin in range(0, len(chosen), size)
        ]

    def _is_evaluation(self, step: int) -> bool:
        every = self._spec.checkpoints.evaluate_every
        interval = self._material.steps_per_epoch if every == "epoch" else every
        return step % interval == 0 or step == self._material.steps

    def _is_evaluated(self) -> bool:
        return bool(self.state.evaluations) and self.state.evaluations[-1].step == self.state.step

    def _evaluate(self) -> None:
        step = self.state.step
        torch.manual_seed(_derived(self._cell.seed, "evaluation", step))
        self._model.eval()
        scores = self._objective.evaluate(
            self._model, self._material.validation, device=self._device, check=self._check
        )
        row = EvaluationRow(step=step, scores=scores)
        if step > 0 or self._material.steps == 0:  # the start is what others are compared with, where there are others
            best = self._best_score()
            if self._objective.is_better(scores[self._objective.metric], best):
                self.state.best_step, self.state.without_better = step, 0
            else:
                self.state.without_better += 1
        self.state.evaluations.append(row)
        self._save()
        self._on_evaluation(row)

    def _best_score(self) -> float | None:
        found = [row for row in self.state.evaluations if row.step == self.state.best_step]
        return found[0].scores[self._objective.metric] if found else None

    def _save(self) -> None:
        if self._saved != self._progress() and self._rank == 0:
            self._on_checkpoint(self._checkpoints.save(self._parameters, self._optimizer, self.state))
        self._saved = self._progress()

    def _progress(self) -> tuple[int, int]:
        return self.state.step, len(self.state.evaluations)


def learning_rate_factor(step: int, steps: int, schedule: ScheduleSpec) -> float:
    """Return the share of the full learning rate that a step takes.

    Args:
        step: From 0.
        steps: Of the whole training.
    """
    warmup = round(schedule.warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    if schedule.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if schedule.kind == "linear" else 1.0


def _optimizer(parameters: dict[str, nn.Parameter], spec: TuningSpec, cell: Cell) -> torch.optim.AdamW:
    chosen = spec.optimizer
    factors = [parameter for name, parameter in parameters.items() if ".lora_" in name]
    head = [parameter for name, parameter in parameters.items() if ".lora_" not in name]
    head_rate = chosen.head_learning_rate or cell.learning_rate
    groups: list[dict[str, Any]] = [{"params": factors, "full": cell.learning_rate}]
    if head:
        groups.append({"params": head, "full": head_rate})
    return torch.optim.AdamW(
        groups,
        lr=cell.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.epsilon,
        weight_decay=chosen.weight_decay,
    )


def _place() -> tuple[int, int]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _derived(seed: int, *words: object) -> int:
    digest = hashlib.sha256(repr((seed, *words)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of PEFT as JSON holds it: sets as sorted lists."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
