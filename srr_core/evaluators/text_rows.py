"""Divergence from the source on a text, and perplexity per token and per word with the paired difference."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

from srr_core.calibration.dataset import TokenWindows, cut_windows
from srr_core.errors import EvaluationError
from srr_core.evaluators import EVALUATORS, ModelPair
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
from srr_core.evaluators.perplexity import describe_protocol, perplexity
from srr_core.evaluators.source_cache import digest_of
from srr_core.evaluators.subject import Evaluator, Files, Subject, bos_setting, require_next_token_model, window
from srr_core.evaluators.tokens import token_losses
from srr_core.evaluators.word_perplexity import describe_protocol as describe_words
from srr_core.evaluators.word_perplexity import page_log_likelihoods
from srr_core.models.inputs import predicted_ids
from srr_core.recipe import DivergenceSpec
from srr_core.recipe.evaluations import TextDivergenceSpec, TokenPerplexitySpec, WordPerplexitySpec
from srr_core.report import Measurement

WIKITEXT = "EleutherAI/wikitext_document_level"
"""The data set of the published tables: 62 raw pages in its test split."""
_WIKITEXT_2 = "wikitext-2-raw-v1"


class TextDivergenceEvaluator(Evaluator):
    """How far the distribution of the next token is from the source's; both models run, so nothing is cached."""

    kind: ClassVar[str] = "divergence"

    def __init__(self, spec: TextDivergenceSpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token or have no source, and texts shorter than a window."""
        require_next_token_model(subject, self.kind, may_have_encoder=True)
        source = _source(subject, self.kind)
        sizes = [opened.architecture().config.get_text_config().vocab_size for opened in (subject.model, source)]
        if sizes[0] != sizes[1]:
            raise EvaluationError(
                f"{self.kind} compares one vocabulary; the model has {sizes[0]}, its source {sizes[1]}"
            )
        _windows(subject, self._spec)

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return the divergence and the agreement, as a compression does."""
        windows, source = _windows(subject, self._spec), _source(subject, self.kind)
        pair = ModelPair(
            source=source.blockwise(subject.device),
            compressed=subject.model.blockwise(subject.device),
            source_folder=source.directory,
            artifact=subject.model.directory,
            windows=windows,
            batch_size=self._spec.batch_size,
            paired_windows=len(windows.ids),
            after_block=lambda _: subject.check_stop(),
        )
        spec = DivergenceSpec(num_sequences=self._spec.num_sequences)
        return EVALUATORS.build(spec).measure(pair)


class TokenPerplexityEvaluator(Evaluator):
    """Perplexity per token; both models see the same windows of the model's own tokens."""

    kind: ClassVar[str] = "perplexity"

    def __init__(self, spec: TokenPerplexitySpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token, and texts shorter than a window."""
        require_next_token_model(subject, self.kind, may_have_encoder=True)
        _windows(subject, self._spec)

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return one row."""
        windows = _windows(subject, self._spec)
        length = windows.ids.shape[1]
        predicted = predicted_ids(subject.model.architecture().model, windows.ids[:1]).shape[1] - 1
        protocol = describe_protocol(windows, predicted=predicted)

        def run(opened: OpenedModel) -> list[float]:
            losses = token_losses(
                opened.blockwise(subject.device),
                windows,
                batch_size=self._spec.batch_size,
                after_block=lambda _: subject.check_stop(),
            )
            return [float(value) for value in losses.double().sum(1)]

        facts = {"kind": self.kind, "protocol": protocol, "tokens": windows.describe().token_sha256}
        before = subject.of_source(facts, lambda: {"nll": run(_source(subject, self.kind))})
        nll = None if before is None else before["nll"]
        counts = [predicted] * len(windows.ids)
        row = _row(self.kind, f"token_perplexity@{length}", protocol, run(subject.model), nll, counts)
        return (row.model_copy(update={"text": windows.describe()}),)


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

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
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
            found = page_log_likelihoods(
                opened.blockwise(subject.device),
                windows(opened),
                pages=len(pages),
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
        before = subject.of_source(facts, lambda: {"nll": run(_source(subject, self.kind))})
        nll = None if before is None else before["nll"]
        return (_row(self.kind, f"word_perplexity@{length}", protocol, run(subject.model), nll, words),)

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


def _windows(subject: Subject, spec: TokenPerplexitySpec | TextDivergenceSpec) -> TokenWindows:
    text = subject.required_text(spec.kind)
    length = min(window(opened, spec.sequence_length) for opened in subject.models())
    return cut_windows(
        text,
        subject.model.tokenizer,
        num_sequences=spec.num_sequences,
        sequence_length=length,
        error=EvaluationError,
    )


def _source(subject: Subject, kind: str) -> OpenedModel:
    if subject.source is None:
        raise EvaluationError(f"{kind} needs the source to compare with: name it")
    return subject.source


def _row(
    kind: str,
    name: str,
    protocol: str,
    nll: Sequence[float],
    before: Sequence[float] | None,
    units: Sequence[int],
) -> Measurement:
    unit = "word" if name.startswith("word") else "token"
    difference = None if before is None else paired_difference(nll, before, units)
    error = None if difference is None or math.isinf(difference.standard_error) else difference.standard_error
    return Measurement(
        evaluator=kind,
        metric=name,
        title=f"Perplexity per {unit}",
        unit="",
        direction="lower",
        source=None if before is None else perplexity(sum(before) / sum(units)),
        compressed=perplexity(sum(nll) / sum(units)),
        difference=None if difference is None else difference.mean,
        difference_unit="" if difference is None else f"nats per {unit}",
        standard_error=error,
        protocol=protocol,
        tokens=sum(units) if unit == "token" else None,
        samples=len(nll),
    )
