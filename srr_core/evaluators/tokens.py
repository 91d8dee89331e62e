"""What two models make of every token of a text, each run once and block by block, no logits kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from srr_core.calibration.dataset import TokenWindows
from srr_core.models.blockwise import BlockwiseModel, Stream

LOGIT_BYTES = 1 << 26
"""Of the logits of one model that are held at once: 512 positions of a vocabulary of 32k, 128 of one of 128k."""
VOCABULARY_CHUNK = 1 << 14
"""Entries of the vocabulary whose probabilities are held at once, beside the logits."""

AfterBlock = Callable[[object], None]


@dataclass(frozen=True)
class TokenScores:
    """Per predicted token; the first token of a window is not predicted."""

    source_losses: Float32[Tensor, "windows predicted"]
    """Negative log-likelihood in nats."""
    compressed_losses: Float32[Tensor, "windows predicted"]
    divergences: Float32[Tensor, "paired predicted"]
    """KL(source ‖ compressed) of the next token's distribution in nats, of the first windows."""
    agreements: Bool[Tensor, "paired predicted"]
    """Whether both models find the same token likeliest."""


def score_tokens(
    source: BlockwiseModel,
    compressed: BlockwiseModel,
    windows: TokenWindows,
    *,
    batch_size: int,
    num_paired: int = 0,
    after_block: AfterBlock | None = None,
    logit_bytes: int = LOGIT_BYTES,
) -> TokenScores:
    """Run both models over all windows and return what they make of each token.

    Memory: one block and the hidden states of all windows, and of the source those of the paired windows once more.

    Args:
        num_paired: Windows, from the first, at which the two distributions are compared.
        after_block: Called after every block of either model; may raise to stop.
        logit_bytes: Of the logits of one model that are held at once; it changes no number beyond rounding.
    """
    rows = max(1, logit_bytes // (4 * source.vocabulary_size))
    with torch.no_grad():
        stream = _run(source, windows, batch_size, after_block)
        with source.outer_weights():
            before = _finished(source, stream)
            kept = [window.clone() for window in before[:num_paired]]
            rest = _losses(source, before[num_paired:], windows.ids[num_paired:], rows)
        del stream, before
        stream = _run(compressed, windows, batch_size, after_block)
        with ExitStack() as held:
            held.enter_context(compressed.outer_weights())
            after = _finished(compressed, stream)
            head = compressed
            if num_paired and not _are_equal(source.outer_tensors(), compressed.outer_tensors()):
                held.enter_context(source.outer_weights())
                head = source
            paired = [
                _compare(head, compressed, *row, rows)
                for row in zip(kept, after[:num_paired], windows.ids[:num_paired], strict=True)
            ]
            compressed_rest = _losses(compressed, after[num_paired:], windows.ids[num_paired:], rows)
    shape = (0, windows.ids.shape[1] - 1)
    return TokenScores(
        source_losses=torch.cat([*(row.source_losses for row in paired), rest]),
        compressed_losses=torch.cat([*(row.compressed_losses for row in paired), compressed_rest]),
        divergences=torch.cat([torch.zeros(shape), *(row.divergences for row in paired)]),
        agreements=torch.cat([torch.zeros(shape, dtype=torch.bool), *(row.agreements for row in paired)]),
    )


def token_losses(
    model: BlockwiseModel, windows: TokenWindows, *, batch_size: int, after_block: AfterBlock | None = None
) -> Float32[Tensor, "windows predicted"]:
    """Return the negative log-likelihood of every predicted token in nats, from one model alone."""
    with torch.no_grad():
        stream = _run(model, windows, batch_size, after_block)
        with model.outer_weights():
            rows = max(1, LOGIT_BYTES // (4 * model.vocabulary_size))
            return _losses(model, _finished(model, stream), windows.ids, rows)


def divergence(
    source: Float32[Tensor, "rows vocabulary"], compressed: Float32[Tensor, "rows vocabulary"]
) -> Float32[Tensor, " rows"]:
    """Return KL(source ‖ compressed) of the softmax of each row of logits, in nats; 0 for rows that are equal.

    The vocabulary is summed in chunks, so that probabilities take no memory of the size of the logits.
    """
    source_log_sum, compressed_log_sum = source.logsumexp(-1, keepdim=True), compressed.logsumexp(-1, keepdim=True)
    total = torch.zeros(len(source), dtype=torch.float64, device=source.device)
    for mine, other in zip(
        torch.split(source, VOCABULARY_CHUNK, dim=-1), torch.split(compressed, VOCABULARY_CHUNK, dim=-1), strict=True
    ):
        log_probability = mine - source_log_sum
        probability = log_probability.exp()
        terms = probability * (log_probability - (other - compressed_log_sum))
        # A token that the source rules out counts nothing, though the difference of two infinities is no number.
        total += torch.where(probability > 0, terms, 0.0).sum(-1, dtype=torch.float64)
    return total.to(torch.float32)


def _run(model: BlockwiseModel, windows: TokenWindows, batch_size: int, after_block: AfterBlock | None) -> Stream:
    stream = model.start(list(windows.batches(batch_size)))
    for index in range(model.num_blocks):
        with model.loaded_block(index) as block:
            model.run_block(stream, block)
        if after_block is not None:
            after_block(index + 1)
    return stream


def _finished(model: BlockwiseModel, stream: Stream) -> list[Float32[Tensor, "length hidden"]]:
    """Return what the head reads of each window; views of the batches, which are not copied."""
    model.finish(stream)
    return [window for batch in stream.hidden for window in batch]


def _losses(
    model: BlockwiseModel,
    hidden: Sequence[Float32[Tensor, "length hidden"]],
    ids: Int64[Tensor, "windows length"],
    rows: int,
) -> Float32[Tensor, "windows predicted"]:
    """Return the loss of every token, `rows` positions of logits at a time."""
    windows = [
        torch.cat([_loss(model.head(states), targets) for states, targets in _pieces(window, tokens, rows)])[None]
        for window, tokens in zip(hidden, ids, strict=True)
    ]
    return torch.cat([torch.zeros(0, ids.shape[1] - 1), *windows])


def _compare(
    head: BlockwiseModel,
    compressed: BlockwiseModel,
    before: Float32[Tensor, "length hidden"],
    after: Float32[Tensor, "length hidden"],
    ids: Int64[Tensor, " length"],
    rows: int,
) -> TokenScores:
    """Return the scores of one window, from the hidden states that both models end with."""
    parts = []
    for (states, targets), (others, _) in zip(_pieces(before, ids, rows), _pieces(after, ids, rows), strict=True):
        mine, other = head.head(states), compressed.head(others)
        agreements = (mine.argmax(-1) == other.argmax(-1)).cpu()
        parts.append((_loss(mine, targets), _loss(other, targets), divergence(mine, other).cpu(), agreements))
    return TokenScores(*(torch.cat(column)[None] for column in zip(*parts, strict=True)))


def _pieces(
    hidden: Float32[Tensor, "length hidden"], ids: Int64[Tensor, " length"], rows: int
) -> Iterator[tuple[Float32[Tensor, "rows hidden"], Int64[Tensor, " rows"]]]:
    yield from zip(torch.split(hidden[:-1], rows), torch.split(ids[1:], rows), strict=True)


def _are_equal(tensors: Iterator[Tensor], others: Iterator[Tensor]) -> bool:
    # The artifact keeps these tensors of the source as they are, and then one copy in memory serves both heads.
    pairs = zip_longest(tensors, others)
    return all(mine is not None and other is not None and torch.equal(mine, other) for mine, other in pairs)


def _loss(logits: Float32[Tensor, "rows vocabulary"], targets: Int64[Tensor, " rows"]) -> Float32[Tensor, " rows"]:
    return torch.nn.functional.cross_entropy(logits, targets.to(logits.device), reduction="none").cpu()
