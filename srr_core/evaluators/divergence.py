"""How far the distribution of the next token has moved from the source's."""

from typing_extensions import override

from srr_core.calibration.dataset import TokenWindows
from srr_core.evaluators.base import Evaluator, ModelPair
from srr_core.evaluators.sampling import mean_of_windows
from srr_core.evaluators.tokens import TokenScores
from srr_core.recipe import DivergenceSpec
from srr_core.report import Measurement

PROTOCOL = (
    "mean over predicted positions of KL(source ‖ compressed) of the full softmax, both models in float32; {sequences} "
    "disjoint windows of {length} tokens cut in order from one text, tokenized as one document; standard error over "
    "windows"
)
_HALVES = "; the encoder reads the first half of a window, and the positions are those of the decoder over the second"


class DivergenceEvaluator(Evaluator[DivergenceSpec]):
    """The mean of KL(source ‖ compressed), and the share of positions at which both find the same token likeliest."""

    @property
    def paired_windows(self) -> int:
        """As many as the specification says."""
        return self.spec.num_sequences

    def measure(self, pair: ModelPair) -> tuple[Measurement, Measurement]:
        """Return the divergence and the agreement."""
        return self.measure_variant(pair.tokens, pair.windows)

    @override
    def measure_variant(self, tokens: TokenScores, all_windows: TokenWindows) -> tuple[Measurement, Measurement]:
        length = all_windows.ids.shape[1]
        windows = all_windows.first(self.spec.num_sequences)
        values = tokens.divergences[: len(windows.ids)]
        mean, agreement = mean_of_windows(values), mean_of_windows(tokens.agreements[: len(values)].double())
        ordered = values.flatten().sort().values
        is_halved = values.shape[1] < length - 1
        protocol = PROTOCOL.format(sequences=len(values), length=length) + (_HALVES if is_halved else "")
        return (
            Measurement(
                evaluator=self.spec.kind,
                metric=f"divergence@{length}",
                title=self.spec.title,
                unit="nats per token",
                direction="lower",
                source=0.0,
                compressed=mean.mean,
                standard_error=mean.standard_error,
                protocol=protocol,
                tokens=values.numel(),
                text=windows.describe(),
                details={
                    "median": float(ordered[len(ordered) // 2]),
                    "99th percentile": float(ordered[len(ordered) * 99 // 100]),
                    "largest": float(ordered[-1]),
                },
            ),
            Measurement(
                evaluator=self.spec.kind,
                metric=f"top1_agreement@{length}",
                title="Same likeliest token as the source",
                unit="share",
                direction="higher",
                source=1.0,
                compressed=agreement.mean,
                standard_error=agreement.standard_error,
                protocol=f"share of the positions at which both find the same token likeliest; otherwise {protocol}",
                tokens=values.numel(),
                text=windows.describe(),
            ),
        )
