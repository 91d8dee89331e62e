"""Vectors of an embedding model against those of its source as rows."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch

from srr_core.errors import EvaluationError
from srr_core.evaluators.glue.data import Example, read_examples
from srr_core.evaluators.glue.metrics import BOOTSTRAP_ROUNDS, spearman, standard_error
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.similarity.embed import embed, read_sentences
from srr_core.evaluators.similarity.measures import fidelity, human_correlation, retrieval_agreement
from srr_core.evaluators.similarity.pooling import MODULES_FILE, Pooling, read_pooling
from srr_core.evaluators.source_cache import digest_of
from srr_core.evaluators.subject import Evaluator, Subject, recovery, window
from srr_core.recipe.evaluations import SentenceSimilaritySpec
from srr_core.recipe.glue_tasks import GLUE_TASKS
from srr_core.report import Measurement

_PROTOCOL = "{what}; pooling {pooling}, vectors of length 1, sentences of at most {length} tokens"
_STS = GLUE_TASKS["stsb"]


class SentenceSimilarityEvaluator(Evaluator):
    """Needs a source for fidelity, and pairs with people's scores for their correlation."""

    kind: ClassVar[str] = "sentence-similarity"

    def __init__(self, spec: SentenceSimilaritySpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse what there is nothing to compare with, and pooling that is unknown."""
        if subject.files.pairs is None and (subject.source is None or subject.files.text is None):
            raise EvaluationError(
                f"{self.kind} needs a source and a text to compare vectors on, or pairs of sentences with scores"
            )
        for opened in subject.models():
            architecture = opened.architecture()
            if architecture.is_encoder_decoder or architecture.model.main_input_name != "input_ids":
                raise EvaluationError(
                    f"{self.kind} needs a model that makes vectors of text, and {opened.class_name} is none"
                )
        self._pooling(subject)
        self._inputs(subject)

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return fidelity and retrieval, where there is a source, and the correlation, where there are pairs."""
        sentences, pairs = self._inputs(subject)
        pooling = self._pooling(subject)
        length = min(window(opened, pooling.max_length or self._spec.max_length) for opened in subject.models())
        length = min(length, self._spec.max_length)
        everything = [*sentences, *(pair.first for pair in pairs), *(str(pair.second) for pair in pairs)]

        def run(opened: OpenedModel) -> torch.Tensor:
            with subject.loaded(opened) as model:
                return embed(
                    model,
                    opened.tokenizer,
                    everything,
                    pooling,
                    batch_size=self._spec.batch_size,
                    max_length=length,
                    after_batch=subject.check_stop,
                )

        def described(what: str) -> str:
            said = "; ".join(["+".join(pooling.modes), *pooling.notes])
            return _PROTOCOL.format(what=what, pooling=said, length=length)

        facts = {"kind": self.kind, "protocol": described("vectors"), "sentences": digest_of(everything)}
        found = subject.of_source(facts, lambda: {"vectors": run(subject.source or subject.model).tolist()})
        before = None if found is None else torch.tensor(found["vectors"])
        after = run(subject.model)
        count = len(sentences)
        rows: list[Measurement] = []
        if before is not None and count:
            rows += _comparison(before[:count], after[:count], described)
        if pairs:
            rows.append(_correlation(before, after, count, pairs, described(f"STS, {len(pairs)} pairs")))
        return tuple(rows)

    def _pooling(self, subject: Subject) -> Pooling:
        # The source's files, where the artifact came without them: both models must pool alike.
        folders = [opened.directory for opened in subject.models()]
        return read_pooling(next((folder for folder in folders if (folder / MODULES_FILE).is_file()), folders[0]))

    def _inputs(self, subject: Subject) -> tuple[list[str], list[Example]]:
        is_compared = subject.source is not None and subject.files.text is not None
        sentences = read_sentences(subject.required_text(self.kind), self._spec.num_sentences) if is_compared else []
        return sentences, [] if subject.files.pairs is None else read_examples(subject.files.pairs, _STS)


def _comparison(before: torch.Tensor, after: torch.Tensor, described: Callable[[str], str]) -> list[Measurement]:
    near, found = fidelity(before, after), retrieval_agreement(before, after)
    count, kind = len(before), SentenceSimilarityEvaluator.kind
    return [
        Measurement(
            evaluator=kind,
            metric="cosine_fidelity",
            title="Cosine with the source's vector",
            unit="",
            direction="higher",
            source=1.0,
            compressed=near.mean,
            standard_error=near.standard_error,
            protocol=described(f"cosine between both vectors of a sentence, mean over {count}"),
            details={"lowest": near.minimum, "first percentile": near.first_percentile},
            samples=count,
        ),
        Measurement(
            evaluator=kind,
            metric=f"retrieval_overlap@{found.neighbours}",
            title="Nearest sentences shared with the source",
            unit="share",
            direction="higher",
            source=1.0,
            compressed=found.top_overlap,
            standard_error=found.standard_error,
            protocol=described(
                f"share of the source's {found.neighbours} nearest of {count} sentences that are as near to the model"
            ),
            details={"same nearest sentence": found.first_agreement},
            samples=count,
        ),
    ]


def _correlation(
    before: torch.Tensor | None, after: torch.Tensor, begin: int, pairs: list[Example], protocol: str
) -> Measurement:
    scores = np.array([pair.label for pair in pairs])
    middle = begin + len(pairs)
    firsts, seconds = after[begin:middle], after[middle:]
    cosines = (firsts.double() * seconds.double()).sum(-1).numpy()
    error = standard_error(spearman, cosines, scores)
    row = Measurement(
        evaluator=SentenceSimilarityEvaluator.kind,
        metric="sts:spearman",
        title="Rank correlation with people's scores",
        unit="",
        direction="higher",
        source=None,
        compressed=spearman(cosines, scores),
        standard_error=error,
        value_error=error,
        protocol=f"{protocol}; standard errors over {BOOTSTRAP_ROUNDS} bootstrap samples",
        samples=len(pairs),
    )
    if before is None:
        return row
    found = human_correlation((before[begin:middle], before[middle:]), (firsts, seconds), scores)
    return row.model_copy(
        update={
            "source": found.source,
            "difference": found.compressed - found.source,
            "standard_error": found.standard_error,
            "recovery_percent": recovery(found.compressed, found.source, direction="higher"),
        }
    )
