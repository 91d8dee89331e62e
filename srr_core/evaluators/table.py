"""The evaluators of `srr evaluate`: one row each."""

from srr_core.evaluators.glue.evaluator import GlueEvaluator
from srr_core.evaluators.harness.evaluator import HarnessEvaluator
from srr_core.evaluators.samples import SamplesEvaluator
from srr_core.evaluators.similarity.evaluator import SentenceSimilarityEvaluator
from srr_core.evaluators.speed.evaluator import SpeedMemoryEvaluator
from srr_core.evaluators.subject import Evaluator
from srr_core.evaluators.text_rows import TextDivergenceEvaluator, TokenPerplexityEvaluator, WordPerplexityEvaluator
from srr_core.recipe.evaluations import (
    GlueSpec,
    HarnessSpec,
    SamplesSpec,
    SentenceSimilaritySpec,
    SpeedMemorySpec,
    TextDivergenceSpec,
    TokenPerplexitySpec,
    WordPerplexitySpec,
)
from srr_core.registry import Registry

EVALUATIONS: Registry[Evaluator] = Registry(
    "evaluation",
    {
        TextDivergenceSpec: TextDivergenceEvaluator,
        TokenPerplexitySpec: TokenPerplexityEvaluator,
        WordPerplexitySpec: WordPerplexityEvaluator,
        HarnessSpec: HarnessEvaluator,
        GlueSpec: GlueEvaluator,
        SentenceSimilaritySpec: SentenceSimilarityEvaluator,
        SpeedMemorySpec: SpeedMemoryEvaluator,
        SamplesSpec: SamplesEvaluator,
    },
)
