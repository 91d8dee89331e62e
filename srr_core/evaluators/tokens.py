"""What two models make of every token of a text, each run once and block by block, no logits kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from srr_core.calibration.dataset import TokenWindows
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.stream import Stream

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
    variants: tuple["TokenScores", ...] = ()
    """Of other weights that ran beside the source, of the paired windows alone, in the place of the compressed ones."""


@dataclass(frozen=True)
class Variants:
    """Other weights for the blocks of the source, run while each of its blocks is in memory."""

    writers: Sequence[Callable[[int], None]] = ()
    """Each lets the loaded block of an index compute with its weights, whatever was written there before."""
    timed: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    """Stands around what they take."""


def score_tokens(
    source: BlockwiseModel,
    compressed: BlockwiseModel,
    windows: TokenWindows,
    *,
    batch_size: int,
    num_paired: int = 0,
    variants: Variants | None = None,
    after_block: AfterBlock | None = None,
    logit_bytes: int = LOGIT_BYTES,
) -> TokenScores:
    """Run both models over all windows and return what they make of each token.

    Memory: one block and the hidden states of all windows, and of the source those of the paired windows once more;
    with variants, those of the paired windows once more for each.

    Args:
        num_paired: Windows, from the first, at which the two distributions are compared.
        variants: To be compared with the source beside the compressed model.
        after_block: Called after every block of either model; may raise to stop.
        logit_bytes: Of the logits of one model that are held at once; it changes no number beyond rounding.
    """
    rows, ids = max(1, logit_bytes // (4 * source.vocabulary_size)), source.predicted(windows.ids)
    beside = variants or Variants()
    with torch.no_grad():
        stream, branches = _run_beside(source, windows, batch_size, beside, after_block, num_paired=num_paired)
        with source.outer_weights():
            before = _finished(source, stream)
            kept = [window.clone() for window in before[:num_paired]]
            rest = _losses(source, before[num_paired:], ids[num_paired:], rows)
            with beside.timed():
                others = [_finished(source, own) for own in branches]
                scored = _paired(source, [source] * len(others), kept, others, ids, rows)
                del others, branches
        del stream, before
        stream = _run(compressed, windows, batch_size, after_block)
        with ExitStack() as held:
            held.enter_context(compressed.outer_weights())
            after = _finished(compressed, stream)
            head = compressed
            if num_paired and not _are_equal(source.outer_tensors(), compressed.outer_tensors()):
                held.enter_context(source.outer_weights())
                head = source
            (paired,) = _paired(head, [compressed], kept, [after], ids, rows)
            compressed_rest = _losses(compressed, after[num_paired:], ids[num_paired:], rows)
    return TokenScores(
        source_losses=torch.cat([paired.source_losses, rest]),
        compressed_losses=torch.cat([paired.compressed_losses, compressed_rest]),
        divergences=paired.divergences,
        agreements=paired.agreements,
        variants=tuple(scored),
    )


def token_losses(
    model: BlockwiseModel, windows: TokenWindows, *, batch_size: int, after_block: AfterBlock | None = None
) -> Float32[Tensor, "windows predicted"]:
    """Return the negative log-likelihood of every predicted token in nats, from one model alone."""
    with torch.no_grad():
        stream = _run(model, windows, batch_size, after_block)
        with model.outer_weights():
            rows = max(1, LOGIT_BYTES // (4 * model.vocabulary_size))
            return _losses(model, _finished(model, stream), model.predicted(windows.ids), rows)


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
    return _run_beside(model, windows, batch_size, Variants(), after_block)[0]


def _run_beside(
    model: BlockwiseModel,
    windows: TokenWindows,
    batch_size: int,
    beside: Variants,
    after_block: AfterBlock | None,
    *,
    num_paired: int = 0,
) -> tuple[Stream, list[Stream]]:
    """Return the hidden states of a model after its last block, and of the paired windows those of each variant."""
    stream = model.start(list(windows.batches(batch_size)))
    others = [stream.branch(-(-num_paired // batch_size)) for _ in beside.writers]
    for index in range(model.num_blocks):
        with model.loaded_block(index, stream, *others) as block:
            model.run_block(stream, block)
            for write, other in zip(beside.writers, others, strict=True):
                with beside.timed():
                    write(index)
                    model.run_block(other, block)
        if after_block is not None:
            after_block(index + 1)
    return stream, others


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


def _paired(
    head: BlockwiseModel,
    models: Sequence[BlockwiseModel],
    before: Sequence[Float32[Tensor, "length hidden"]],
    after: Sequence[Sequence[Float32[Tensor, "length hidden"]]],
    ids: Int64[Tensor, "windows length"],
    rows: int,
) -> list[TokenScores]:
    """Return the scores of each model in the paired windows, from the hidden states that all of them end with.

    Args:
        head: The source, whose logits are computed once.
        before: Of the source, of the paired windows.
        after: Of each model, of these windows at least.
    """
    shape = (0, ids.shape[1] - 1)
    empty = torch.zeros(shape)
    none = TokenScores(empty, empty, empty, agreements=torch.zeros(shape, dtype=torch.bool))
    found = [[none] for _ in models]
    for number, states in enumerate(before):
        compared = _compare(head, models, states, [own[number] for own in after], ids[number], rows)
        for scores, window in zip(found, compared, strict=True):
            scores.append(window)
    return [_joined(scores) for scores in found]


def _compare(
    head: BlockwiseModel,
    models: Sequence[BlockwiseModel],
    before: Float32[Tensor, "length hidden"],
    after: Sequence[Float32[Tensor, "length hidden"]],
    ids: Int64[Tensor, " length"],
    rows: int,
) -> list[TokenScores]:
    """Return the scores of each model in one window."""
    others = [torch.split(states[:-1], rows) for states in after]
    parts: list[list[TokenScores]] = [[] for _ in models]
    for piece, (states, targets) in enumerate(_pieces(before, ids, rows)):
        mine = head.head(states)
        losses, likeliest = _loss(mine, targets), mine.argmax(-1)
        for model, own, scores in zip(models, others, parts, strict=True):
            other = model.head(own[piece])
            row = TokenScores(
                losses[None],
                _loss(other, targets)[None],
                divergence(mine, other).cpu()[None],
                (likeliest == other.argmax(-1)).cpu()[None],
            )
            scores.append(row)
    return [_joined(scores, dimension=1) for scores in parts]


def _joined(parts: Sequence[TokenScores], dimension: int = 0) -> TokenScores:
    return TokenScores(
        torch.cat([part.source_losses for part in parts], dimension),
        torch.cat([part.compressed_losses for part in parts], dimension),
        torch.cat([part.divergences for part in parts], dimension),
        torch.cat([part.agreements for part in parts], dimension),
    )


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
