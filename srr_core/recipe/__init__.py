"""What to do, as data: pydantic only, so that the service may read it without torch."""

from srr_core.recipe.base import Spec
from srr_core.recipe.budget import BudgetSpec, Setting
from srr_core.recipe.calibration import CalibrationSpec, EvaluationSpec
from srr_core.recipe.evaluators import Direction, DivergenceSpec, EvaluatorBase, EvaluatorSpec, PerplexitySpec
from srr_core.recipe.exporters import EXPORT_FORMATS, AdapterSpec, ExportSpec, GGUFSpec, GPTQFormatSpec, MergedSpec
from srr_core.recipe.presets import DEFAULT_RECIPE, PRESETS, named_recipe, override, parse_assignments, parse_recipe
from srr_core.recipe.quantizer_base import AffineSpec, QuantizerBase
from srr_core.recipe.quantizers import (
    GPTQSpec,
    IntegerSpec,
    LearnedSpec,
    MXIntSpec,
    NormalFloatSpec,
    QuantizerSpec,
    QuIPSharpSpec,
)
from srr_core.recipe.rank_selectors import AlignedSpec, FixedSpec, RankSelectorSpec, SpectralSpec, VerifiedSpec
from srr_core.recipe.recipe import Recipe, SketchSpec
from srr_core.recipe.repair import RepairSpec
from srr_core.recipe.scalings import AutocorrelationSpec, DiagonalSpec, IdentitySpec, LQERSpec, ScalingSpec
from srr_core.recipe.uniform_grid import UniformGrid

__all__ = [
    "DEFAULT_RECIPE",
    "EXPORT_FORMATS",
    "PRESETS",
    "AdapterSpec",
    "AffineSpec",
    "AlignedSpec",
    "AutocorrelationSpec",
    "BudgetSpec",
    "CalibrationSpec",
    "DiagonalSpec",
    "Direction",
    "DivergenceSpec",
    "EvaluationSpec",
    "EvaluatorBase",
    "EvaluatorSpec",
    "ExportSpec",
    "FixedSpec",
    "GGUFSpec",
    "GPTQFormatSpec",
    "GPTQSpec",
    "IdentitySpec",
    "IntegerSpec",
    "LQERSpec",
    "LearnedSpec",
    "MXIntSpec",
    "MergedSpec",
    "NormalFloatSpec",
    "PerplexitySpec",
    "QuIPSharpSpec",
    "QuantizerBase",
    "QuantizerSpec",
    "RankSelectorSpec",
    "Recipe",
    "RepairSpec",
    "ScalingSpec",
    "Setting",
    "SketchSpec",
    "Spec",
    "SpectralSpec",
    "UniformGrid",
    "VerifiedSpec",
    "named_recipe",
    "override",
    "parse_assignments",
    "parse_recipe",
]
