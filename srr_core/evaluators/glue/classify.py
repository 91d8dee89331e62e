"""A sequence classifier over the examples of a GLUE task."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from srr_core.errors import EvaluationError
from srr_core.evaluators.glue.data import Example
from srr_core.recipe.glue_tasks import GlueTask

PROTOCOL = (
    "GLUE {task}, {count} examples; at most {length} tokens each, longer ones cut at the end of the longer sentence; "
    "standard errors over {rounds} bootstrap samples"
)


def class_order(model: PreTrainedModel, task: GlueTask) -> tuple[int, ...]:
    """Return which class of the task each output of the model stands for; empty for a score.

    Names decide where the model has those of the task, whatever their order: MNLI models disagree about it. Models
    whose labels are numbered are taken to follow the task.

    Raises:
        EvaluationError: the model has no classification head, or another number of outputs.
    """
    kind = type(model).__name__
    if not kind.endswith("ForSequenceClassification"):
        raise EvaluationError(f"glue needs a sequence classifier fine-tuned for {task.name}, and {kind} is none")
    named: Mapping[Any, Any] = model.config.id2label or {}
    outputs = len(named)
    wanted = len(task.labels) or 1
    if outputs != wanted:
        raise EvaluationError(f"{kind} has {outputs} outputs; {task.name} needs one fine-tuned with {wanted}")
    if not task.labels:
        return ()
    known = {_plain(name): number for number, name in enumerate(task.labels)}
    names = [_plain(str(named.get(index, ""))) for index in range(outputs)]
    return tuple(known[name] for name in names) if set(names) == set(known) else tuple(range(outputs))


@torch.no_grad()
def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: GlueTask,
    examples: Sequence[Example],
    *,
    batch_size: int,
    max_length: int,
    after_batch: Callable[[], None] | None = None,
) -> Float[ndarray, "_"]:
    """Return a class, or a score, for every example, in their order.

    Args:
        max_length: Tokens of an example; the caller keeps it within the model's.
        after_batch: Called after every batch; may raise to stop.
    Raises:
        EvaluationError: the model does not fit the task.
    """
    order = class_order(model, task)
    size = batch_size
    if tokenizer.pad_token is None or getattr(model.config, "pad_token_id", None) is None:
        size = 1  # a decoder without padding does not know where a padded sentence ends
    # Alike lengths together; the order of the answers is restored.
    positions = sorted(
        range(len(examples)), key=lambda index: len(examples[index].first + (examples[index].second or ""))
    )
    answers = np.zeros(len(examples))
    for begin in range(0, len(positions), size):
        batch = positions[begin : begin + size]
        logits = _logits(model, tokenizer, [examples[index] for index in batch], padded=size > 1, max_length=max_length)
        chosen = [order[int(row.argmax())] for row in logits] if order else logits[:, 0].tolist()
        answers[batch] = chosen
        if after_batch is not None:
            after_batch()
    return answers


def _logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    padded: bool,
    max_length: int,
) -> torch.Tensor:
    seconds = [example.second for example in examples]
    encoded = tokenizer(
        [example.first for example in examples],
        None if seconds[0] is None else seconds,
        padding=padded,
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    known = {name: value.to(model.device) for name, value in encoded.items() if isinstance(value, torch.Tensor)}
    logits: torch.Tensor = model(**known).logits
    return logits.float().cpu()


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
