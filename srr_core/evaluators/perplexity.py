"""Token-level perplexity, and how far the loss of each window has moved from the source's."""

import math

from typing_extensions import override

from srr_core.calibration.dataset import TokenWindows
from srr_core.evaluators.base import Evaluator, ModelPair
from srr_core.evaluators.sampling import mean_of_windows
from srr_core.evaluators.tokens import TokenScores
from srr_core.recipe import PerplexitySpec
from srr_core.report import Measurement

PROTOCOL = (
    "token-level; {sequences} disjoint windows of {length} tokens cut in order from one text, tokenized as one "
    "document; each window is scored on its own, its first token is not predicted; every predicted token counts "
    "the same; float32 arithmetic; not comparable with word-level perplexity"
)
PROTOCOL_OF_HALVES = (
    "token-level; {sequences} disjoint windows of {length} tokens cut in order from one text, tokenized as one "
    "document; the encoder reads the first half of a window and the decoder predicts the {predicted} tokens of the "
    "second from the token it starts with; every predicted token counts the same; float32 arithmetic; not comparable "
    "with the perplexity of a model without encoder"
)
"""Of encoder-decoders."""
LARGEST_LOSS = 700.0
"""Its exponential is near the end of float64."""


class PerplexityEvaluator(Evaluator[PerplexitySpec]):
    """exp of the mean negative log-likelihood of every predicted token; the difference is that of the means."""

    def measure(self, pair: ModelPair) -> tuple[Measurement]:
        """Return one row."""
        return self.measure_variant(pair.tokens, pair.windows)

    @override
    def measure_variant(self, tokens: TokenScores, windows: TokenWindows) -> tuple[Measurement]:
        source, compressed = mean_of_windows(tokens.source_losses), mean_of_windows(tokens.compressed_losses)
        moved = mean_of_windows(tokens.compressed_losses.double() - tokens.source_losses.double())
        return (
            Measurement(
                evaluator=self.spec.kind,
                metric=f"token_perplexity@{windows.ids.shape[1]}",
                title=self.spec.title,
                unit="",
                direction="lower",
                source=perplexity(source.mean),
                compressed=perplexity(compressed.mean),
                difference=moved.mean,
                difference_unit="nats per token",
                standard_error=moved.standard_error,
                protocol=describe_protocol(windows, predicted=tokens.source_losses.shape[1]),
                tokens=tokens.source_losses.numel(),
                text=windows.describe(),
            ),
        )


def perplexity(mean_loss: float) -> float:
    """Return the perplexity of a mean negative log-likelihood in nats, always finite."""
    return math.exp(min(mean_loss, LARGEST_LOSS))


def describe_protocol(windows: TokenWindows, *, predicted: int | None = None) -> str:
    """Return one sentence that says exactly what the number is.

    Args:
        predicted: Tokens of each window; all but the first by default.
    """
    sequences, length = windows.ids.shape
    if predicted not in {None, length - 1}:
        return PROTOCOL_OF_HALVES.format(sequences=sequences, length=length, predicted=predicted)
    return PROTOCOL.format(sequences=sequences, length=length)
