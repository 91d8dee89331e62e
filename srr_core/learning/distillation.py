"""A model that learns what its source predicts, judged by windows it does not learn from.

Every look at the held-out windows is also a checkpoint: the parameters, the two moments of Adam, the best state so far
and what was seen, in one file that is complete or absent. An interrupted run goes on from the last one and, on the same
machine, ends with the same bits, because the order of windows depends on the seed and the step alone.

AdamW without decay, a linear warm-up and a cosine after it (arXiv:1711.05101, arXiv:1608.03983), gradients clipped at
a norm of 1. A parameter's rate is a share of its root mean square at the start, so that a model with weights half as
large learns the same.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import write_tensors
from srr_core.errors import CheckpointError

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
"""Of Adam, as published (arXiv:1412.6980)."""
_LARGEST_NORM = 1.0
_STATE = "transcript"
"""The name of a tensor that holds a JSON document, so that one file has all of a state."""


@dataclass(frozen=True)
class Pupil:
    """What learns, and how it is told how well it does.

    Args:
        parameters: By name; float32.
        rates: The full learning rate of each.
        learn: Adds the gradients of the mean loss of some windows to the parameters and returns this loss.
        judge: Returns the loss over the held-out windows with everything as it would be stored.
    """

    parameters: Mapping[str, nn.Parameter]
    rates: Mapping[str, float]
    learn: Callable[[Sequence[int]], float]
    judge: Callable[[], float]


@dataclass(frozen=True)
class Course:
    """How long and from what a pupil learns."""

    num_windows: int
    epochs: int
    batch_size: int
    warm_up_steps: int
    evaluation_steps: int
    patience: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every window is met once."""
        return math.ceil(self.num_windows / self.batch_size)

    @property
    def steps(self) -> int:
        """Steps in all, where nothing ends it early."""
        return self.epochs * self.steps_per_epoch

    def windows(self, step: int) -> list[int]:
        """Return the windows of one step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed((self.seed + epoch) % 2**63)
        order = torch.randperm(self.num_windows, generator=generator).tolist()
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def share(self, step: int) -> float:
        """Return the part of the full rate that a step takes."""
        if step < self.warm_up_steps:
            return (step + 1) / self.warm_up_steps
        left = max(self.steps - self.warm_up_steps, 1)
        return (1 + math.cos(math.pi * (step - self.warm_up_steps) / left)) / 2


@dataclass
class Transcript:
    """How far it is, and what was seen on the way."""

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Steps done and the held-out loss then; the first is the start's."""
    best_step: int = 0
    end: Literal["", "finished", "no better", "diverged"] = ""
    """Why it ended; empty while it goes on."""

    @property
    def start_loss(self) -> float:
        """Of the model as it was."""
        return self.losses[0][1]

    @property
    def loss(self) -> float:
        """The best there was."""
        return min(loss for _, loss in self.losses)


def distill(
    pupil: Pupil,
    course: Course,
    file: Path,
    *,
    check: Callable[[], None],
    on_evaluation: Callable[[int, float], None] = lambda _, __: None,
) -> Transcript:
    """Let a pupil learn, and leave it in the state that did best on the held-out windows; the start is one of them.

    A loss that is not finite ends it: the best state is kept, and `end` says diverged.

    Args:
        file: Of the checkpoint; one that is there is gone on from.
        check: Called after every step; may raise to stop.
        on_evaluation: Called with the steps done and the held-out loss.
    Raises:
        CheckpointError: the checkpoint is of other parameters.
        StorageError: it cannot be written.
    """
    learner = _Learner(pupil, course, file)
    progress = learner.progress
    if not progress.losses:
        learner.look(pupil.judge())
        on_evaluation(0, progress.start_loss)
    while not progress.end:
        is_finite = learner.step()
        is_last = progress.step == course.steps
        if not is_finite:
            progress.end = "diverged"
        elif is_last or progress.step % course.evaluation_steps == 0:
            loss = pupil.judge()
            learner.look(loss)
            on_evaluation(progress.step, loss)
        check()
    learner.restore_best()
    return progress


class _Learner:
    def __init__(self, pupil: Pupil, course: Course, file: Path) -> None:
        self._pupil = pupil
        self._course = course
        self._file = file
        self.progress = Transcript()
        self._means = {name: torch.zeros_like(value) for name, value in pupil.parameters.items()}
        self._squares = {name: torch.zeros_like(value) for name, value in pupil.parameters.items()}
        self._best = {name: value.detach().clone() for name, value in pupil.parameters.items()}
        if file.exists():
            self._resume()

    def step(self) -> bool:
        """Take one step. Returns whether its loss and gradients were finite; otherwise nothing has moved."""
        parameters, number = self._pupil.parameters, self.progress.step
        for parameter in parameters.values():
            parameter.grad = None
        loss = self._pupil.learn(self._course.windows(number))
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        norm = math.sqrt(sum(float(g.square().sum(dtype=torch.float64)) for g in gradients.values()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return False
        share, clip = self._course.share(number), min(1.0, _LARGEST_NORM / (norm + 1e-6))
        for name, gradient in gradients.items():
            self._move(name, gradient * clip, self._pupil.rates[name] * share)
        self.progress.step += 1
        return True

    @torch.no_grad()
    def _move(self, name: str, gradient: Tensor, rate: float) -> None:
        mean, square, count = self._means[name], self._squares[name], self.progress.step + 1
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.lerp_(gradient.square(), 1 - _BETAS[1])
        root = (square / (1 - _BETAS[1] ** count)).sqrt_().add_(_EPSILON)
        self._pupil.parameters[name].addcdiv_(mean, root, value=-rate / (1 - _BETAS[0] ** count))

    def look(self, loss: float) -> None:
        """Take note of a held-out loss, say whether this is the end, and make the state durable."""
        progress = self.progress
        if not progress.losses or loss < progress.loss:  # a loss that is no number is not less
            progress.best_step = progress.step
            self._best = {name: value.detach().clone() for name, value in self._pupil.parameters.items()}
        progress.losses.append((progress.step, loss))
        looks = sum(step > progress.best_step for step, _ in progress.losses)
        if not math.isfinite(loss):
            progress.losses.pop()
            progress.end = "diverged"
        elif progress.step >= self._course.steps:
            progress.end = "finished"
        elif looks >= self._course.patience:
            progress.end = "no better"
        self._save()

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put the best state into the parameters."""
        for name, parameter in self._pupil.parameters.items():
            parameter.copy_(self._best[name])

    def _groups(self) -> dict[str, Mapping[str, Tensor]]:
        return {
            "now": {name: value.data for name, value in self._pupil.parameters.items()},
            "mean": self._means,
            "square": self._squares,
            "best": self._best,
        }

    def _save(self) -> None:
        groups = self._groups().items()
        tensors = {f"{group}/{name}": tensor for group, named in groups for name, tensor in named.items()}
        text = json.dumps(asdict(self.progress)).encode()
        write_tensors(self._file, {**tensors, _STATE: torch.frombuffer(bytearray(text), dtype=torch.uint8)})

    @torch.no_grad()
    def _resume(self) -> None:
        reader = CheckpointReader(self._file.parent, entries=read_header(self._file))
        for group, named in self._groups().items():
            for name, tensor in named.items():
                if f"{group}/{name}" not in reader:
                    raise CheckpointError(f"{self._file.name}: holds no state of {name}; remove it to start over")
                tensor.copy_(reader[f"{group}/{name}"])
        stated = json.loads(bytes(reader[_STATE].tolist()))
        losses = [(int(step), float(loss)) for step, loss in stated["losses"]]
        self.progress = Transcript(int(stated["step"]), losses, int(stated["best_step"]), stated["end"])
