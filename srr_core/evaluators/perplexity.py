"""Token-level perplexity, computed with one block in memory."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from srr_core.calibration.dataset import TokenWindows
from srr_core.models.blockwise import BlockwiseModel

LOGIT_ROWS = 512
"""Positions whose log-probabilities are held at once; a vocabulary of 128k makes a row half a megabyte."""

PROTOCOL = (
    "token-level; {sequences} disjoint windows of {length} tokens cut in order from one text, tokenized as one "
    "document; each window is scored on its own, its first token is not predicted; every predicted token counts "
    "the same; float32 arithmetic; not comparable with word-level perplexity"
)


def perplexity(
    model: BlockwiseModel,
    windows: TokenWindows,
    *,
    num_blocks: int,
    batch_size: int,
    after_block: Callable[[int], None] | None = None,
) -> float:
    """Return exp of the mean negative log-likelihood of every predicted token.

    Runs the model block by block over all windows; memory is one block and the hidden states.

    Args:
        after_block: Called with the number of finished blocks; may raise to stop.
    """
    stream = model.start(list(windows.batches(batch_size)))
    for index in range(num_blocks):
        with model.loaded_block(index) as block:
            model.run_block(stream, block)
        if after_block is not None:
            after_block(index + 1)
    total, count = 0.0, 0
    for ids, logits in model.logits(stream):
        total += _negative_log_likelihood(logits[:, :-1], ids[:, 1:])
        count += ids[:, 1:].numel()
    return math.exp(min(total / count, 700.0))


def describe_protocol(windows: TokenWindows) -> str:
    """Return one sentence that says exactly what the number is."""
    sequences, length = windows.ids.shape
    return PROTOCOL.format(sequences=sequences, length=length)


def _negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    rows, wanted = logits.flatten(0, 1), targets.flatten()
    total = torch.zeros((), dtype=torch.float64)
    for piece, target in zip(torch.split(rows, LOGIT_ROWS), torch.split(wanted, LOGIT_ROWS), strict=True):
        losses = torch.nn.functional.cross_entropy(piece.to(torch.float32), target, reduction="none")
        total += losses.double().sum().cpu()
    return float(total)
