"""Word-level perplexity exactly as the published WikiText-2 tables have it, computed with one block in memory.

The tables of QERA and SRR report `word_perplexity` of the `wikitext` task of lm-evaluation-harness: the log-likelihood
of every token of a page, summed over all pages, over the number of words of the raw pages. Words are counted before
detokenization, so models with different tokenizers compare. A word is more than a token, so the number is larger than
the token level's and never comparable with it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srr_core.evaluators.pages import RollingWindow
from srr_core.evaluators.tokens import LOGIT_BYTES, AfterBlock
from srr_core.models.blockwise import BlockwiseModel

PROTOCOL = (
    "word-level: minus the log-likelihood of every token over the words of the raw pages; {pages} pages, {words} "
    "words, {tokens} tokens; rolling windows of {length} tokens per page, one prefix token before the first; "
    "add_bos_token={add_bos_token}; detokenize={detokenize}; float32 arithmetic; as the task wikitext of lm-eval 0.4"
)
_PADDING = 0
"""Stands after what is scored, where a causal model does not look."""


@dataclass(frozen=True)
class PageScores:
    """What one model gives to every page."""

    nll: tuple[float, ...]
    """Minus the log-likelihood of each page, in nats."""
    words: tuple[int, ...]

    @property
    def word_perplexity(self) -> float:
        """The exponential of the sum over pages per word."""
        return math.exp(min(sum(self.nll) / sum(self.words), 700.0))


@torch.no_grad()
def page_log_likelihoods(
    model: BlockwiseModel,
    windows: Sequence[RollingWindow],
    *,
    pages: int,
    batch_size: int,
    after_block: AfterBlock | None = None,
) -> tuple[float, ...]:
    """Return minus the log-likelihood of every page, in nats.

    All windows are padded at the end to one length, so that batches share their masks; little is wasted, because only a
    page shorter than a window has a short one.

    Args:
        pages: How many pages the windows are of; one without a token gets 0.
        after_block: Called with the number of finished blocks; may raise to stop.
    """
    groups = [windows[begin : begin + batch_size] for begin in range(0, len(windows), batch_size)]
    length = max(len(window.inputs) for window in windows)
    stream = model.start([_padded(group, length) for group in groups])
    for index in range(model.num_blocks):
        with model.loaded_block(index, stream) as block:
            model.run_block(stream, block)
        if after_block is not None:
            after_block(index + 1)
    totals = [0.0] * pages
    rows = max(1, LOGIT_BYTES // (4 * model.vocabulary_size))
    with model.outer_weights():
        model.finish(stream)
        for group, hidden in zip(groups, stream.hidden, strict=True):
            for window, states in zip(group, hidden, strict=True):
                totals[window.page] += _negative_log_likelihood(model, states, window, rows)
    return tuple(totals)


def describe_protocol(
    windows: Iterable[RollingWindow], words: Sequence[int], *, max_length: int, add_bos_token: bool, detokenize: str
) -> str:
    """Return one sentence that says exactly what the number is."""
    return PROTOCOL.format(
        pages=len(words),
        words=sum(words),
        tokens=sum(len(window.targets) for window in windows),
        length=max_length,
        add_bos_token=add_bos_token,
        detokenize=detokenize,
    )


def _padded(group: Sequence[RollingWindow], length: int) -> Tensor:
    rows = [[*window.inputs, *[_PADDING] * (length - len(window.inputs))] for window in group]
    return torch.tensor(rows, dtype=torch.int64)


def _negative_log_likelihood(model: BlockwiseModel, hidden: Tensor, window: RollingWindow, rows: int) -> float:
    end = len(window.inputs)
    scored = hidden[end - len(window.targets) : end]
    targets = torch.tensor(window.targets, device=scored.device)
    total = 0.0
    for states, wanted in zip(torch.split(scored, rows), torch.split(targets, rows), strict=True):
        losses = torch.nn.functional.cross_entropy(model.head(states), wanted, reduction="none")
        total += float(losses.double().sum().cpu())
    return total
