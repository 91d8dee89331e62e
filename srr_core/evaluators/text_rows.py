"""Perplexity of a text, per token and per word, with the paired difference to the source."""

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import ClassVar

import torch

from srr_core.calibration.dataset import TokenWindows, cut_windows
from srr_core.errors import EvaluationError
from srr_core.evaluation_report import EvaluationRow
from srr_core.evaluators.dataset_folder import load_dataset, require_splits
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.pages import (
    RollingWindow,
    detokenizer,
    prefix_token,
    read_pages,
    rolling_windows,
    tokenize_page,
    word_count,
)
from srr_core.evaluators.paired import paired_difference
from srr_core.evaluators.perplexity import LOGIT_ROWS, describe_protocol
from srr_core.evaluators.source_cache import digest_of
from srr_core.evaluators.subject import Evaluator, Files, Subject, bos_setting, require_next_token_model, window
from srr_core.evaluators.word_perplexity import describe_protocol as describe_words
from srr_core.evaluators.word_perplexity import page_log_likelihoods
from srr_core.models.blockwise import BlockwiseModel
from srr_core.recipe.evaluations import TokenPerplexitySpec, WordPerplexitySpec

WIKITEXT = "EleutherAI/wikitext_document_level"
"""The data set of the published tables: 62 raw pages in its test split."""
_WIKITEXT_2 = "wikitext-2-raw-v1"


class TokenPerplexityEvaluator(Evaluator):
    """Perplexity per token; both models see the same windows of the model's own tokens."""

    kind: ClassVar[str] = "perplexity"

    def __init__(self, spec: TokenPerplexitySpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token, and texts shorter than a window."""
        require_next_token_model(subject, self.kind)
        self._windows(subject)

    def measure(self, subject: Subject) -> tuple[EvaluationRow, ...]:
        """Return one row."""
        windows = self._windows(subject)
        length = windows.ids.shape[1]
        protocol = describe_protocol(windows)

        def run(opened: OpenedModel) -> list[float]:
            model, plan = opened.blockwise(subject.device)
            return window_log_likelihoods(
                model,
                windows,
                num_blocks=len(plan.blocks),
                batch_size=self._spec.batch_size,
                after_block=subject.check_stop,
            )

        facts = {"kind": self.kind, "protocol": protocol, "tokens": windows.describe().token_sha256}
        before = subject.of_source(facts, lambda: {"nll": run(_source(subject))})
        return (
            _row(
                self.kind,
                f"token_perplexity@{length}",
                protocol,
                run(subject.model),
                None if before is None else before["nll"],
                [length - 1] * len(windows.ids),
                unit="token",
            ),
        )

    def _windows(self, subject: Subject) -> TokenWindows:
        text = subject.required_text(self.kind)
        length = min(window(opened, self._spec.sequence_length) for opened in subject.models())
        return cut_windows(
            text,
            subject.model.tokenizer,
            num_sequences=self._spec.num_sequences,
            sequence_length=length,
            error=EvaluationError,
        )


class WordPerplexityEvaluator(Evaluator):
    """Perplexity per word of raw pages; each model tokenizes them by itself."""

    kind: ClassVar[str] = "word-perplexity"

    def __init__(self, spec: WordPerplexitySpec) -> None:
        self._spec = spec

    def needed_datasets(self, files: Files) -> tuple[str, ...]:
        """Return WikiText-2 by pages, unless the caller has pages."""
        return () if files.pages is not None else (WIKITEXT,)

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token, files without pages, and a missing detokenizer."""
        require_next_token_model(subject, self.kind)
        self._pages(subject)
        detokenizer(self._spec.detokenize)
        prefix_token(subject.model.tokenizer)

    def measure(self, subject: Subject) -> tuple[EvaluationRow, ...]:
        """Return one row."""
        pages = self._pages(subject)
        words = [word_count(page) for page in pages]
        clean = detokenizer(self._spec.detokenize)
        length = min(window(opened, self._spec.max_length) for opened in subject.models())
        add_bos_token = bos_setting(self._spec.add_bos_token, subject.model)

        def windows(opened: OpenedModel) -> list[RollingWindow]:
            tokenizer = opened.tokenizer
            prefix = prefix_token(tokenizer)
            return [
                cut
                for index, page in enumerate(pages)
                for cut in rolling_windows(
                    tokenize_page(tokenizer, clean(page), add_bos_token=add_bos_token),
                    page=index,
                    prefix=prefix,
                    max_length=length,
                )
            ]

        def run(opened: OpenedModel) -> list[float]:
            model, plan = opened.blockwise(subject.device)
            found = page_log_likelihoods(
                model,
                windows(opened),
                pages=len(pages),
                num_blocks=len(plan.blocks),
                batch_size=self._spec.batch_size,
                after_block=lambda _: subject.check_stop(),
            )
            return list(found)

        protocol = describe_words(
            windows(subject.model),
            words,
            max_length=length,
            add_bos_token=add_bos_token,
            detokenize=self._detokenizer_name(),
        )
        facts = {"kind": self.kind, "protocol": protocol, "pages": digest_of(pages)}
        before = subject.of_source(facts, lambda: {"nll": run(_source(subject))})
        nll = None if before is None else before["nll"]
        return (_row(self.kind, f"word_perplexity@{length}", protocol, run(subject.model), nll, words, unit="word"),)

    def _pages(self, subject: Subject) -> list[str]:
        if subject.files.pages is not None:
            return read_pages(subject.files.pages)[: self._spec.max_pages]
        folder = subject.data.location(WIKITEXT)
        subject.data.require_writable_cache()
        splits = load_dataset(str(folder), _WIKITEXT_2, cache=subject.data.cache, options={}, called=WIKITEXT)
        require_splits(splits, {"test": "to be scored on"}, called=WIKITEXT, task=self.kind)
        pages = [str(page) for page in splits["test"]["page"]]
        return pages[: self._spec.max_pages]

    def _detokenizer_name(self) -> str:
        if self._spec.detokenize == "none":
            return "none"
        return f"{self._spec.detokenize} of lm-eval {version('lm_eval')}"


def window_log_likelihoods(
    model: BlockwiseModel,
    windows: TokenWindows,
    *,
    num_blocks: int,
    batch_size: int,
    after_block: Callable[[], None],
) -> list[float]:
    """Return minus the log-likelihood of every window, in nats, its first token not predicted."""
    stream = model.start(list(windows.batches(batch_size)))
    for index in range(num_blocks):
        with model.loaded_block(index) as block:
            model.run_block(stream, block)
        after_block()
    found: list[float] = []
    for ids, logits in model.logits(stream):
        found += [_negative_log_likelihood(rows, row) for rows, row in zip(logits, ids, strict=True)]
    return found


def _negative_log_likelihood(logits: torch.Tensor, ids: torch.Tensor) -> float:
    # A vocabulary of 128k makes a row half a megabyte, so not all positions at once.
    total = 0.0
    pieces = zip(torch.split(logits[:-1], LOGIT_ROWS), torch.split(ids[1:], LOGIT_ROWS), strict=True)
    for rows, targets in pieces:
        losses = torch.nn.functional.cross_entropy(rows.to(torch.float32), targets, reduction="none")
        total += float(losses.double().sum().cpu())
    return total


def _source(subject: Subject) -> OpenedModel:
    if subject.source is None:
        raise EvaluationError("there is no source to compare with")
    return subject.source


def _row(
    kind: str,
    name: str,
    protocol: str,
    nll: Sequence[float],
    before: Sequence[float] | None,
    units: Sequence[int],
    *,
    unit: str,
) -> EvaluationRow:
    value = _perplexity(nll, units)
    if before is None:
        return EvaluationRow(
            evaluator=kind, name=name, protocol=protocol, value=value, higher_is_better=False, samples=len(nll)
        )
    difference = paired_difference(nll, before, units)
    return EvaluationRow(
        evaluator=kind,
        name=name,
        protocol=protocol,
        value=value,
        source=_perplexity(before, units),
        difference=difference.mean,
        difference_error=difference.standard_error if math.isfinite(difference.standard_error) else None,
        difference_unit=f"nats per {unit}",
        higher_is_better=False,
        samples=len(nll),
    )


def _perplexity(nll: Sequence[float], units: Sequence[int]) -> float:
    return math.exp(min(sum(nll) / sum(units), 700.0))
