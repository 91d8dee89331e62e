"""What a task's training lowers and what its evaluation measures: one objective per kind of task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from srr_core.recipe.tuning_tasks import ClassificationTask, GSM8KTask, RegressionTask
from srr_core.tuners import gsm8k
from srr_core.tuners.batches import Batch, label_batch, token_batch
from srr_core.tuners.examples import Example
from srr_core.tuners.loss import TokenLoss
from srr_core.tuners.metrics import SCORES
from srr_core.tuners.packing import Window, alone

Check = Callable[[], None]
"""Raises where the run shall stop; called between batches."""


class Objective(ABC):
    """How windows become batches, a loss, and scores."""

    metric: str
    """The score by which the best checkpoint is chosen."""
    is_higher_better: bool

    @abstractmethod
    def batch(self, windows: Sequence[Window]) -> Batch:
        """Return windows as tensors on the CPU."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum of the loss over the targets of a batch."""

    @abstractmethod
    def evaluate(
        self, model: Any, examples: Sequence[Example], *, device: torch.device, check: Check
    ) -> dict[str, float]:
        """Return the scores of a model in evaluation mode, `loss` among them."""

    def is_better(self, score: float, than: float | None) -> bool:
        """Whether a score is better than another one, and than none; one that is not a number never is."""
        if score != score:  # noqa: PLR0124  # NaN alone differs from itself
            return False
        return than is None or (score > than if self.is_higher_better else score < than)


class TokenObjective(Objective):
    """Next tokens: the mean of -log p over the trained ones, and its exponential.

    Args:
        padding: Token behind windows that are shorter than the longest of their batch.
        is_packed: Whether windows hold several examples.
        batch_size: Examples of one pass of an evaluation.
    """

    metric = "loss"
    is_higher_better = False

    def __init__(self, loss: TokenLoss, *, padding: int, is_packed: bool, batch_size: int) -> None:
        self._loss = loss
        self._padding = padding
        self._is_packed = is_packed
        self._batch_size = batch_size

    @override
    def batch(self, windows: Sequence[Window]) -> Batch:
        """Return windows as tensors on the CPU."""
        return token_batch(windows, padding=self._padding, is_packed=self._is_packed)

    @override
    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum of -log p over the trained tokens."""
        return self._loss(model, batch)

    @override
    @torch.no_grad()
    def evaluate(
        self, model: Any, examples: Sequence[Example], *, device: torch.device, check: Check
    ) -> dict[str, float]:
        """Return loss and perplexity over all trained tokens, whatever the batches."""
        total, count = 0.0, 0
        for some in _by_length(examples, self._batch_size):
            check()
            batch = token_batch(alone(some), padding=self._padding, is_packed=False)
            total += float(self._loss(model, batch.to(device)))
            count += batch.num_targets
        mean = total / max(count, 1)
        return {"loss": mean, "perplexity": _exponential(mean)}


class AnswerObjective(TokenObjective):
    """Arithmetic: trained as next tokens, judged by the numbers of generated answers."""

    metric = "flexible_accuracy"
    is_higher_better = True
    _PHRASES: ClassVar[dict[str, Callable[[str], float | None]]] = {
        "strict_accuracy": gsm8k.strict_number,
        "flexible_accuracy": gsm8k.flexible_number,
    }

    def __init__(
        self, loss: TokenLoss, task: GSM8KTask, tokenizer: Any, *, stops: Sequence[int], **options: Any
    ) -> None:
        super().__init__(loss, **options)
        self._task = task
        self._tokenizer = tokenizer
        self._stops = list(stops)

    @override
    @torch.no_grad()
    def evaluate(
        self, model: Any, examples: Sequence[Example], *, device: torch.device, check: Check
    ) -> dict[str, float]:
        """Return loss, perplexity and both accuracies; sampling is as random as torch's generator at the call."""
        scores = super().evaluate(model, examples, device=device, check=check)
        asked = list(examples)[: self._task.max_scored]
        right = dict.fromkeys(self._PHRASES, 0)
        for begin in range(0, len(asked), self._batch_size):
            check()
            some = asked[begin : begin + self._batch_size]
            for example, text in zip(some, self._answers(model, some, device), strict=True):
                reference = gsm8k.reference_number(example.answer)
                for name, number in self._PHRASES.items():
                    right[name] += gsm8k.is_right(number(text), reference)
        return {**scores, **{name: count / len(asked) for name, count in right.items()}}

    def _answers(self, model: Any, examples: Sequence[Example], device: torch.device) -> list[str]:
        sampling = self._task.sampling
        prompts = [list(example.ids[: example.trained.index(1)]) for example in examples]
        length = max(map(len, prompts))
        # Padding to the left, so that every answer begins right behind its question.
        ids = torch.tensor([[self._padding] * (length - len(prompt)) + prompt for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        chosen: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            chosen = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self._padding,
            eos_token_id=self._stops or None,
            use_cache=True,
            **chosen,
        )
        texts: list[str] = self._tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
        return texts


class LabelObjective(Objective):
    """Classes or numbers: cross-entropy or squared error, and the score the task names."""

    def __init__(self, task: ClassificationTask | RegressionTask, *, padding: int, batch_size: int) -> None:
        self.metric = task.metric
        self.is_higher_better = True
        self._is_number = isinstance(task, RegressionTask)
        self._padding = padding
        self._batch_size = batch_size

    @override
    def batch(self, windows: Sequence[Window]) -> Batch:
        """Return examples as tensors on the CPU."""
        examples = [example for window in windows for example in window]
        return label_batch(examples, padding=self._padding, is_number=self._is_number)

    @override
    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum of -log p of the right class, or of squared errors."""
        return self._sum(model(**batch.inputs).logits.float(), batch.targets)

    @override
    @torch.no_grad()
    def evaluate(
        self, model: Any, examples: Sequence[Example], *, device: torch.device, check: Check
    ) -> dict[str, float]:
        """Return the mean loss and the task's score."""
        total = 0.0
        predicted, true = [], []
        for some in _by_length(examples, self._batch_size):
            check()
            batch = label_batch(some, padding=self._padding, is_number=self._is_number).to(device)
            logits = model(**batch.inputs).logits.float()
            total += float(self._sum(logits, batch.targets))
            predicted.append(logits[:, 0] if self._is_number else logits.argmax(-1))
            true.append(batch.targets)
        score = SCORES[self.metric](torch.cat(predicted).cpu(), torch.cat(true).cpu())
        return {"loss": total / len(examples), self.metric: score}

    def _sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._is_number:
            return (logits[:, 0] - targets).square().sum()
        return functional.cross_entropy(logits, targets, reduction="sum")


def _by_length(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    """Yield examples of about the same length together, which needs least padding; scores do not see the order."""
    ordered = sorted(examples, key=len)
    yield from (ordered[begin : begin + size] for begin in range(0, len(ordered), size))


def _exponential(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).exp())
