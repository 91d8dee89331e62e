"""What evaluators of `srr evaluate` measure, and what all of them promise."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from transformers import PreTrainedModel

from srr_core.errors import EvaluationError
from srr_core.evaluators.dataset_folder import DatasetFolder
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.source_cache import Result, SourceCache
from srr_core.recipe import Direction
from srr_core.recipe.evaluations import BosSetting
from srr_core.report import Measurement

Stop = Callable[[], None]
"""Called between units of work; raises to stop."""


@dataclass(frozen=True)
class Files:
    """What the caller gives to measure on; everything is optional."""

    text: Path | None = None
    """Prose, for perplexity and for sentences."""
    pages: Path | None = None
    """Raw pages for word-level perplexity; WikiText-2 from the data folder where there are none."""
    pairs: Path | None = None
    """Labelled sentences for glue, scored pairs for sentence similarity."""
    task_folder: Path | None = None
    """Further tasks for the harness."""


@dataclass(frozen=True)
class Subject:
    """A model, its source if that is at hand, and what they are measured on."""

    model: OpenedModel
    source: OpenedModel | None
    device: torch.device
    files: Files
    data: DatasetFolder
    cache: SourceCache
    check_stop: Stop

    def models(self) -> Sequence[OpenedModel]:
        """Return both, or the one there is; the model first."""
        return [self.model] if self.source is None else [self.model, self.source]

    def of_source(self, protocol: Mapping[str, Any], compute: Callable[[], Result]) -> Result | None:
        """Return what the source scores, from the cache where it is known; None without a source."""
        if self.source is None:
            return None
        facts = {
            **protocol,
            "device": self.device.type,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        return self.cache.get(self.source.digest, facts, compute)

    @contextmanager
    def loaded(self, opened: OpenedModel) -> Iterator[PreTrainedModel]:
        """Hold a whole model in memory, the model as it is packed; given back at the end."""
        model = opened.load(self.device)
        try:
            yield model
        finally:
            del model
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def required_text(self, what: str) -> Path:
        """Return the text. Raises EvaluationError where there is none."""
        if self.files.text is None:
            raise EvaluationError(f"{what} needs a text: name one")
        return self.files.text


class Evaluator(ABC):
    """Measures a model, and its source beside it.

    Laws: `check` reads no weight and refuses whatever `measure` would; a model measured against itself differs by
    nothing; the same subject gives the same rows, but for times.
    """

    kind: ClassVar[str]

    @abstractmethod
    def check(self, subject: Subject) -> None:
        """Refuse what does not fit, before any model is loaded.

        Raises:
            EvaluationError: why, and what would fit.
        """

    @abstractmethod
    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return the rows, the most telling first. Raises EvaluationError, CheckpointError, StopRequested."""

    def needed_datasets(self, files: Files) -> tuple[str, ...]:
        """Return the repositories of data that must be in the data folder. Raises EvaluationError."""
        return ()


def require_next_token_model(subject: Subject, kind: str, *, may_have_encoder: bool = False) -> None:
    """Raise EvaluationError for a model that does not predict the next token.

    Args:
        may_have_encoder: Whether an encoder-decoder will do, whose decoder predicts it.
    """
    for opened in subject.models():
        architecture = opened.architecture()
        if not (architecture.has_perplexity if may_have_encoder else architecture.is_causal_lm):
            raise EvaluationError(
                f"{kind} needs a model that predicts the next token, and {opened.class_name} does not"
            )


def window(opened: OpenedModel, asked: int) -> int:
    """Return a window no longer than the model was made for."""
    longest = opened.architecture().max_sequence_length
    return asked if longest is None else min(asked, longest)


def bos_setting(asked: BosSetting, opened: OpenedModel) -> bool:
    """Return whether special tokens are put before a text: as asked, or as the published tables have it.

    lm-eval 0.4.7, with which these were made, gives none to causal models but Gemma's, which are lost without.
    """
    return asked if asked is not None else opened.class_name.startswith(("Gemma", "RecurrentGemma"))


def recovery(value: float, source: float | None, *, direction: Direction) -> float | None:
    """Return the percentage of the source's score that is left, or None where the source has none."""
    if source is None or source <= 0 or value < 0:
        return None
    if direction == "higher":
        return 100 * value / source
    return 100 * source / value if value else None
