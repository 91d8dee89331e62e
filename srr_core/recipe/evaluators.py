"""What a result is measured by, beside its source: one specification per evaluator."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from srr_core.recipe.base import Spec

Direction = Literal["lower", "higher"]
"""Which values of a metric are the better ones."""


class EvaluatorBase(Spec):
    """What everybody may ask of an evaluator's specification without knowing which one it is; it also has a `kind`."""

    title: ClassVar[str]
    """For people, as a choice in a form."""


class PerplexitySpec(EvaluatorBase):
    """Perplexity per token over disjoint windows of the evaluation text, of source and result."""

    title: ClassVar[str] = "Perplexity per token"

    kind: Literal["perplexity"] = "perplexity"


class DivergenceSpec(EvaluatorBase):
    """Mean Kullback-Leibler divergence of the next token's distribution from the source's, and how often both agree.

    It tells methods apart with a fiftieth of the tokens that perplexity needs, because every position is compared with
    the source's own answer and not with what the text happened to say.
    """

    title: ClassVar[str] = "Divergence from the source"

    kind: Literal["divergence"] = "divergence"
    num_sequences: int = Field(
        default=32,
        ge=1,
        le=100_000,
        description="Windows compared, the first of the evaluation's; their hidden states are in memory meanwhile.",
    )


EvaluatorSpec = Annotated[PerplexitySpec | DivergenceSpec, Field(discriminator="kind")]
