"""What a task needs around an opened model, tried on it first: the loss by pieces, and the packing of windows."""

from collections.abc import Iterable
from typing import Any

import torch
from peft import PeftModel

from srr_core.errors import RecipeError
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_tasks import ClassificationTask, GSM8KTask, RegressionTask
from srr_core.tuners.batches import token_batch
from srr_core.tuners.dataset import Dataset
from srr_core.tuners.loss import BFLOAT16_TOLERANCE, FLOAT32_TOLERANCE, TokenLoss, keeps_apart
from srr_core.tuners.objectives import AnswerObjective, LabelObjective, Objective, TokenObjective

NUM_CHECKED_WINDOWS = 2


def objective_for(
    model: Any, dataset: Dataset, spec: TuningSpec, tokenizer: Any, *, stops: Iterable[int]
) -> tuple[Objective, tuple[str, ...]]:
    """Return the objective of a task, and what its report must say.

    A model may be a PeftModel or a plain one. Two things that hold for most architectures and not for all are tried on
    the first windows: that logits are the output of the head alone, and that packed examples do not see each other.

    Raises:
        RecipeError: packing was asked for, and the model does not keep the examples of a window apart.
    """
    padding = padding_of(tokenizer)
    batch_size = spec.batch.size
    if isinstance(dataset.task, ClassificationTask | RegressionTask):
        return LabelObjective(dataset.task, padding=padding, batch_size=batch_size), ()
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    device = next(base.parameters()).device
    tolerance = BFLOAT16_TOLERANCE if base.dtype == torch.bfloat16 else FLOAT32_TOLERANCE
    loss = TokenLoss(base, chunk_tokens=spec.batch.chunk_tokens)
    was_training = model.training
    model.eval()
    notes = []
    first = token_batch(dataset.training[:NUM_CHECKED_WINDOWS], padding=padding, is_packed=dataset.is_packed).to(device)
    if not loss.check(model, first, tolerance=tolerance):
        notes.append("the model does more with its logits than its head does, so they are computed whole")
    shared = [window for window in dataset.training if len(window) > 1][:NUM_CHECKED_WINDOWS]
    if shared and not keeps_apart(loss, model, shared, padding=padding, tolerance=tolerance, device=device):
        raise RecipeError(
            f"{type(base).__name__} does not keep the examples of a packed window apart; set batch.packing to false"
        )
    model.train(was_training)
    common: dict[str, Any] = {"padding": padding, "is_packed": dataset.is_packed, "batch_size": batch_size}
    if isinstance(dataset.task, GSM8KTask):
        return AnswerObjective(loss, dataset.task, tokenizer, stops=sorted(stops), **common), tuple(notes)
    return TokenObjective(loss, **common), tuple(notes)


def padding_of(tokenizer: Any) -> int:
    """Return the token behind what is shorter than its neighbours; it is never attended to."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
