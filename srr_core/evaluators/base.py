"""What every evaluator promises: two models side by side in, measurements out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from srr_core.calibration.dataset import TokenWindows
from srr_core.evaluators.tokens import TokenScores, Variants, score_tokens
from srr_core.models.blockwise import BlockwiseModel
from srr_core.recipe import EvaluatorBase
from srr_core.report import Measurement

SpecT = TypeVar("SpecT", bound=EvaluatorBase)


@dataclass(frozen=True)
class ModelPair:
    """A source and what was made of it, on one text: to be run block by block, or loaded from where it lies."""

    source: BlockwiseModel
    compressed: BlockwiseModel
    source_folder: Path
    artifact: Path
    windows: TokenWindows
    batch_size: int
    paired_windows: int = 0
    """Windows, from the first, at which both models' distributions are compared; see `Evaluator.paired_windows`."""
    variants: Variants | None = None
    """Other weights that are measured beside the compressed ones; see `Evaluator.measure_variant`."""
    after_block: Callable[[object], None] | None = None
    """Called after every block of either model; may raise to stop."""

    @cached_property
    def tokens(self) -> TokenScores:
        """What both models make of every token of the windows; run once, whoever asks first."""
        return score_tokens(
            self.source,
            self.compressed,
            self.windows,
            batch_size=self.batch_size,
            num_paired=min(self.paired_windows, len(self.windows.ids)),
            variants=self.variants,
            after_block=self.after_block,
        )


class Evaluator(ABC, Generic[SpecT]):
    """Measures a result as one specification says.

    Laws: a model measured against itself differs by nothing; the same pair gives the same numbers.
    """

    def __init__(self, spec: SpecT) -> None:
        self.spec = spec

    @property
    def paired_windows(self) -> int:
        """Windows at which it needs both models' distributions at once, which keeps hidden states in memory."""
        return 0

    @abstractmethod
    def measure(self, pair: ModelPair) -> tuple[Measurement, ...]:
        """Return the measurements, the most telling first.

        Raises:
            StopRequested: `after_block` said so.
        """

    def measure_variant(self, scores: TokenScores, windows: TokenWindows) -> tuple[Measurement, ...]:
        """Return the same of a variant; nothing where it takes more than what a variant makes of each token."""
        return ()


AnyEvaluator = Evaluator[Any]
