"""Random layers with the anisotropy that SRR uses."""

from dataclasses import dataclass

import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import AutocorrelationSpec, Recipe
from srr_core.scalings import SCALINGS, AutocorrelationScaling
from srr_core.srr import Method, WhiteNoiseProbe, decompose
from srr_core.types import Decomposition, Statistics


@dataclass(frozen=True)
class Problem:
    """A weight and what its inputs look like."""

    weight: Tensor
    statistics: Statistics


def random_problem(
    out_features: int = 48,
    in_features: int = 64,
    *,
    decay: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Return a weight of noise plus a few strong directions, and inputs whose spectrum decays as a power."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = 0.02 * (draw(out_features, in_features) + draw(out_features, 4) @ draw(4, in_features) / 2)
    basis = torch.linalg.qr(draw(in_features, in_features)).Q
    eigenvalues = torch.arange(1, in_features + 1, dtype=torch.float64) ** -decay
    channel = torch.exp(0.7 * draw(in_features))
    gram = channel[:, None] * (basis * eigenvalues) @ basis.mT * channel
    gram = (gram + gram.mT) / 2
    return Problem(weight.to(dtype), Statistics(gram, gram.diagonal().sqrt(), 1000))


def build_method(recipe: Recipe, statistics: Statistics, *, factor_dtype: torch.dtype = torch.float64) -> Method:
    """Return the parts of a recipe for one problem; factors are kept wide so that identities are sharp."""
    exact = AutocorrelationScaling(AutocorrelationSpec()).factor(statistics)
    is_exact = isinstance(recipe.scaling, AutocorrelationSpec)
    scaling = exact if is_exact else SCALINGS.build(recipe.scaling).factor(statistics)
    width = statistics.autocorrelation.shape[0]
    probe = WhiteNoiseProbe(scaling, width, recipe, seed=7)
    selector = RANK_SELECTORS.build(recipe.rank_selector)
    return Method(recipe, scaling, exact, selector, probe, factor_dtype)


def solve(problem: Problem, recipe: Recipe, *, seed: int = 0) -> Decomposition:
    """Return what a recipe makes of a problem."""
    quantizer = QUANTIZERS.build(recipe.quantizer)
    return decompose(
        problem.weight,
        build_method(recipe, problem.statistics),
        lambda weight: quantizer.quantize(weight, problem.statistics, seed=seed),
        seed=seed,
    )


def output_length(matrix: Tensor, statistics: Statistics) -> float:
    """Return the root mean square output of a layer with this weight, straight from the definition."""
    wide = matrix.to(torch.float64)
    return float((wide @ statistics.autocorrelation * wide).sum().clamp_min(0).sqrt())


def rebuild(result: Decomposition) -> Tensor:
    """Return Q + L·R in float64."""
    weight = result.quantized.dequantize().to(torch.float64)
    if result.left is None or result.right is None:
        return weight
    return weight + result.left.to(torch.float64) @ result.right.to(torch.float64)
