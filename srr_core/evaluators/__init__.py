"""The evaluators, one row per specification."""

from srr_core.evaluators.base import AnyEvaluator, Evaluator, ModelPair
from srr_core.evaluators.divergence import DivergenceEvaluator
from srr_core.evaluators.perplexity import PerplexityEvaluator
from srr_core.recipe import DivergenceSpec, PerplexitySpec
from srr_core.registry import Registry

EVALUATORS: Registry[AnyEvaluator] = Registry(
    "evaluator", {DivergenceSpec: DivergenceEvaluator, PerplexitySpec: PerplexityEvaluator}
)

__all__ = ["EVALUATORS", "Evaluator", "ModelPair"]
