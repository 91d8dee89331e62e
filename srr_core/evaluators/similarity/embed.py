"""Sentences to vectors by a loaded model, and texts to sentences."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from srr_core.errors import EvaluationError
from srr_core.evaluators.similarity.pooling import Pooling, pool

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])")
MIN_WORDS, MAX_WORDS = 4, 64
"""Shorter pieces are headings, longer ones lists; neither is a sentence."""


def read_sentences(file: Path, count: int) -> list[str]:
    """Return the first different sentences of a text, of 4 to 64 words.

    Raises:
        EvaluationError: the file cannot be read, or has fewer than two sentences.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as cause:
        raise EvaluationError(f"{file.name} is not UTF-8 text (byte {cause.start}); save it as UTF-8") from cause
    except OSError as cause:
        raise EvaluationError(f"{file.name} cannot be read: {cause.strerror}") from cause
    found: dict[str, None] = {}
    for line in text.splitlines():
        for piece in _SENTENCE_END.split(line.strip()):
            if MIN_WORDS <= len(piece.split()) <= MAX_WORDS:
                found.setdefault(piece)
        if len(found) >= count:
            break
    if len(found) < 2:
        raise EvaluationError(f"{file.name} has fewer than two sentences of {MIN_WORDS} to {MAX_WORDS} words")
    return list(found)[:count]


@torch.no_grad()
def embed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    pooling: Pooling,
    *,
    batch_size: int,
    max_length: int,
    after_batch: Callable[[], None] | None = None,
) -> Float[Tensor, "sentences width"]:
    """Return one vector of length 1 for every sentence, in float32 on the CPU.

    Args:
        max_length: Tokens of a sentence; the caller keeps it within the model's.
        after_batch: Called after every batch; may raise to stop.
    """
    size = batch_size if tokenizer.pad_token is not None else 1
    positions = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    vectors: list[Tensor] = [torch.empty(0)] * len(sentences)
    for begin in range(0, len(positions), size):
        batch = positions[begin : begin + size]
        encoded = tokenizer(
            [sentences[index] for index in batch],
            padding=size > 1,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        ).to(model.device)
        hidden = _last_hidden_state(model, dict(encoded))
        rows = torch.nn.functional.normalize(pool(hidden, encoded["attention_mask"], pooling), dim=-1).cpu()
        for index, row in zip(batch, rows, strict=True):
            vectors[index] = row
        if after_batch is not None:
            after_batch()
    return torch.stack(vectors)


def _last_hidden_state(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    # The body without its head, whatever the class: of a model without a head it is the model itself.
    body = getattr(model, model.base_model_prefix, model)
    output = body(**inputs)
    hidden: Tensor = output.last_hidden_state
    return hidden
