"""Structured Residual Reconstruction of one weight: preserve, quantize, reconstruct.

The notation of the paper (arXiv:2602.02001), transposed because a torch weight is [out, in]:

    W   weight [out, in]          S   scaling, SᵀS = E[xᵀx] for the exact one
    Q   dequantized codes         U   leading left singular vectors of a scaled matrix A·Sᵀ
    E   W - Q                     L R low-rank part, L [out, r], R [r, in]

The best rank-r correction of E in the S-norm is the projection of E onto the leading left singular vectors
of E·Sᵀ: L = U, R = UᵀE. No inverse, square root or solve appears, so a singular or ill-conditioned S
costs accuracy nowhere, ‖LR‖ ≤ ‖E‖ holds for any orthonormal U, and an inexact U can only be a little less than
optimal. The loss of a fixed Q is then ‖E·Sᵀ‖² - ‖UᵀE·Sᵀ‖².
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from srr_core.errors import NumericalError
from srr_core.linalg.length import length
from srr_core.linalg.precision import exact_matmul
from srr_core.linalg.truncated_svd import SVDFactors, truncated_svd
from srr_core.rank_selectors import Candidates, RankSelector, Spectrum
from srr_core.recipe import Recipe
from srr_core.scalings import ScalingFactor
from srr_core.types import Decomposition, LayerErrors, QuantizedTensor, Spectra

PROJECTION_TOLERANCE = 1e-3
"""Slack of ‖UUᵀE‖ ≤ ‖E‖ in float32; a code with an inverse misses the bound by factors of 10 (spec 2.7)."""

SPECTRUM_VALUES = 64
"""Singular values of a layer that are told, four digits each: a kilobyte for both spectra."""

Quantize = Callable[[Float[Tensor, "out in"]], QuantizedTensor]


@dataclass(frozen=True)
class Method:
    """The parts a recipe is made of, built for one group of layers."""

    recipe: Recipe
    scaling: ScalingFactor
    exact: ScalingFactor
    """The scaling errors are judged by; the same object as `scaling` where the method is exact."""
    selector: RankSelector
    probe: "WhiteNoiseProbe"
    factor_dtype: torch.dtype = torch.bfloat16
    """What L and R are stored in; errors are measured after the rounding."""
    output_length: float | None = None
    """‖xW‖ of the layer at hand, where another method with the same statistics has measured it."""

    @property
    def is_exact(self) -> bool:
        """Whether it works in the scaling that errors are judged by."""
        return self.exact is self.scaling


@exact_matmul()
def decompose(weight: Float[Tensor, "out in"], method: Method, quantize: Quantize, *, seed: int = 0) -> Decomposition:
    """Return the best W ≈ Q + L·R the recipe finds.

    One quantization and one truncated SVD per round and per preserved rank that is tried. Peak memory is about
    six times the weight in float32.

    Args:
        weight: Finite, float32 or float64. Not modified.
        method: The recipe and what was built from it for the group the layer belongs to.
        quantize: Rounds a weight of the same shape to codes.
        seed: Of the sketches. The same seed, device and number of threads give the same bits.
    Raises:
        NumericalError: a projection, or L·R as stored, is longer than what it corrects, which only non-finite input
            or a broken driver can cause.
    """
    recipe = method.recipe
    rank = min(recipe.rank, *weight.shape)
    # Without a rank the scaled weight only tells a length, which may be known.
    is_known = rank == 0 and method.is_exact and method.output_length is not None
    scaled = None if is_known else method.scaling.times(weight)
    candidates = None if scaled is None else _candidates(weight, scaled, rank, method, seed)
    choices = method.selector.choices(candidates) if candidates and candidates.rank else [torch.arange(0)]
    judge = _Judge(weight, scaled, method)
    best: _Attempt | None = None
    for choice in choices:
        directions = candidates.directions.left[:, choice.to(weight.device)] if candidates and len(choice) else None
        kept = _kept(_rounds(weight, directions, rank, judge, quantize, seed), recipe)
        if best is None or kept.errors.output < best.errors.output:
            best = kept
    assert best is not None  # noqa: S101  # a selector offers at least one choice
    if not math.isfinite(best.errors.output):
        raise NumericalError(
            "the output error is not finite: values of the weight or of its inputs are near the end of float32"
        )
    if recipe.reconstruct == "joint":
        _require_projection(best, method.factor_dtype)
    found = best.decomposition(method, rank_was_clamped=rank < recipe.rank)
    return replace(found, output_length=judge.output_length, spectra=_spectra(candidates, best, judge))


@exact_matmul()
def measured(weight: Float[Tensor, "out in"], result: Decomposition, method: Method) -> Decomposition:
    """Return a result whose codes or factors were changed, with its errors measured again.

    Args:
        weight: The one it stands for.
        method: What the result was found with.
    """
    error = weight - result.quantized.dequantize().to(weight)
    left = weight.new_zeros(weight.shape[0], 0) if result.left is None else result.left
    right = weight.new_zeros(0, weight.shape[1]) if result.right is None else result.right
    low_rank = _LowRank(left.to(weight), right.to(weight), left, right)
    judge = _Judge(weight, method.scaling.times(weight), method)
    return replace(result, errors=judge.errors(error, method.scaling.times(error), low_rank))


def _candidates(
    weight: Float[Tensor, "out in"], scaled: Float[Tensor, "out columns"], rank: int, method: Method, seed: int
) -> Candidates:
    # Inputs that never fired leave a scaled weight narrower than the layer, with fewer directions to preserve.
    count = min(rank, *scaled.shape)
    return Candidates(
        rank=count,
        weight=weight,
        scaled=scaled,
        leading_directions=lambda: _leading(scaled, count, method.recipe, seed),
        probe=lambda: method.probe(weight.shape[0], count),
    )


@dataclass(frozen=True)
class _LowRank:
    """L·R, each rank with equal norms on both sides, as wide as computed and as narrow as stored."""

    left: Float[Tensor, "out rank"]
    right: Float[Tensor, "rank in"]
    stored_left: Shaped[Tensor, "out rank"]
    stored_right: Shaped[Tensor, "rank in"]


@dataclass(frozen=True)
class _Attempt:
    quantized: QuantizedTensor
    low_rank: _LowRank
    preserved_rank: int
    preserved_overlap: float | None
    rounds: int
    errors: LayerErrors
    error_values: Float[Tensor, " rank"] | None = None
    """Singular values of the scaled error, where the whole L·R was fitted to it."""

    def decomposition(self, method: Method, *, rank_was_clamped: bool) -> Decomposition:
        has_rank = method.recipe.rank > 0
        clamped = ("the rank is larger than the layer and was clamped",) if rank_was_clamped else ()
        return Decomposition(
            quantized=self.quantized,
            left=self.low_rank.stored_left if has_rank else None,
            right=self.low_rank.stored_right if has_rank else None,
            preserved_rank=self.preserved_rank,
            iterations=self.rounds,
            errors=self.errors,
            notes=(*method.scaling.notes, *self.quantized.notes, *clamped),
            preserved_overlap=self.preserved_overlap,
        )


def _spectra(candidates: Candidates | None, attempt: "_Attempt", judge: "_Judge") -> Spectra | None:
    def shares(values: Tensor | None) -> tuple[float, ...]:
        found = [] if values is None or not judge.scaled_length > 0 else values[:SPECTRUM_VALUES].tolist()
        return tuple(float(f"{value / judge.scaled_length:.4g}") for value in found)

    spectra = Spectra(shares(candidates.known_values if candidates else None), shares(attempt.error_values))
    return spectra if spectra.weight or spectra.error else None


def _require_projection(attempt: "_Attempt", dtype: torch.dtype) -> None:
    # Rounding moves ‖LR‖ by at most half an eps for R and, L having `rank` orthogonal columns, √rank of that for L.
    rounding = torch.finfo(dtype).eps * attempt.low_rank.left.shape[1] ** 0.5
    if not attempt.errors.correction <= 1 + PROJECTION_TOLERANCE + rounding:
        raise NumericalError(
            f"L·R is {attempt.errors.correction:.6g} times as long as the error it corrects and may be no longer; "
            "the values of the weight may be near the end of float32"
        )


def _kept(attempts: Iterator[_Attempt], recipe: Recipe) -> _Attempt:
    """Return the round to keep: the best, or the last where the method says so."""
    kept = next(attempts)
    for attempt in attempts:
        if not recipe.keep_best or attempt.errors.output < kept.errors.output:
            kept = attempt
    return kept


def _rounds(
    weight: Float[Tensor, "out in"],
    directions: Float[Tensor, "out preserved"] | None,
    rank: int,
    judge: "_Judge",
    quantize: Quantize,
    seed: int,
) -> Iterator[_Attempt]:
    recipe = judge.method.recipe
    preserved = project(weight, directions)
    low_rank = _balanced(*preserved, judge.method.factor_dtype)
    error_values = None
    for number in range(1, recipe.iterations + 1):
        has_columns = low_rank.left.shape[1] > 0
        quantized = quantize(weight - low_rank.left @ low_rank.right if has_columns else weight)
        error = weight - quantized.dequantize().to(weight)
        scaled_error = judge.method.scaling.times(error)
        if recipe.reconstruct == "concat":
            low_rank = _concatenate(preserved, error, scaled_error, rank, judge.method, seed)
        elif recipe.reconstruct == "joint" or number < recipe.iterations:
            start = low_rank.left if low_rank.left.shape[1] else None
            leading = _leading(scaled_error, rank, recipe, seed + number, start=start)
            low_rank = _balanced(*project(error, leading.left), judge.method.factor_dtype)
            error_values = leading.singular_values
        yield _Attempt(
            quantized=quantized,
            low_rank=low_rank,
            preserved_rank=0 if directions is None else directions.shape[1],
            preserved_overlap=_overlap(low_rank.left, directions),
            rounds=number,
            errors=judge.errors(error, scaled_error, low_rank),
            error_values=error_values,
        )


def _overlap(left: Float[Tensor, "out rank"], directions: Float[Tensor, "out k"] | None) -> float | None:
    """Return ‖UᵀV‖² / k for the preserved directions U and an orthonormal basis V of the first k columns of L."""
    if directions is None or not directions.shape[1]:
        return None
    count = directions.shape[1]
    basis, _ = torch.linalg.qr(left[:, :count])
    return float((directions.mT @ basis).square().sum()) / count


def _concatenate(
    preserved: tuple[Float[Tensor, "out k"], Float[Tensor, "k in"]],
    error: Float[Tensor, "out in"],
    scaled_error: Float[Tensor, "out columns"],
    rank: int,
    method: Method,
    seed: int,
) -> _LowRank:
    left, right = preserved
    exposed = error - left @ right
    scaled_exposed = scaled_error - left @ method.scaling.times(right)
    leading = _leading(scaled_exposed, rank - left.shape[1], method.recipe, seed + 1)
    more_left, more_right = project(exposed, leading.left)
    return _balanced(torch.cat([left, more_left], 1), torch.cat([right, more_right], 0), method.factor_dtype)


def project(
    matrix: Float[Tensor, "out in"], directions: Float[Tensor, "out k"] | None
) -> tuple[Float[Tensor, "out k"], Float[Tensor, "k in"]]:
    """Return L and R with L·R the projection of a matrix onto orthonormal directions of its output.

    Raises:
        NumericalError: the projection is longer than the matrix, so the directions are not orthonormal.
    """
    if directions is None:
        return matrix.new_zeros(matrix.shape[0], 0), matrix.new_zeros(0, matrix.shape[1])
    right = directions.mT @ matrix
    longest, bound = _product_length(directions, right), length(matrix)
    if not longest <= bound * (1 + PROJECTION_TOLERANCE):
        raise NumericalError(f"a projection of length {longest:.6g} came from a matrix of length {bound:.6g}")
    return directions, right


def _product_length(left: Float[Tensor, "out k"], right: Float[Tensor, "k in"]) -> float:
    """Return ‖L·R‖ without the product: ‖LR‖² = tr(LᵀL · RRᵀ), in float64 because it squares."""
    left, right = left.double(), right.double()
    return float(((left.mT @ left) * (right @ right.mT)).sum().clamp_min(0).sqrt())


def _balanced(left: Float[Tensor, "out k"], right: Float[Tensor, "k in"], dtype: torch.dtype) -> _LowRank:
    # Equal norms on both sides lose least in 16 bits and train evenly; a zero row stays as it is.
    ratio = (right.norm(dim=1) / left.norm(dim=0)).sqrt()
    split = torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, torch.ones_like(ratio))
    left, right = left * split, right / split[:, None]
    return _LowRank(left, right, left.to(dtype), right.to(dtype))


def _leading(
    scaled: Float[Tensor, "out columns"],
    rank: int,
    recipe: Recipe,
    seed: int,
    start: Float[Tensor, "out width"] | None = None,
) -> SVDFactors:
    return truncated_svd(
        scaled,
        min(rank, *scaled.shape),
        seed=seed,
        oversampling=recipe.sketch.oversampling,
        power_iterations=recipe.power_iterations,
        start=start,
    )


class WhiteNoiseProbe:
    """Spectra of scaled white noise, one per number of outputs, shared by the layers of a group.

    Source: SRR, arXiv:2602.02001, section 4: U[-1, 1] entries of the shape of the weight.
    """

    def __init__(
        self,
        scaling: ScalingFactor,
        in_features: int,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self._scaling = scaling
        self._in_features = in_features
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._spectra: dict[tuple[int, int], Spectrum] = {}

    def __call__(self, out_features: int, rank: int) -> Spectrum:
        """Return the leading singular values of noise·Sᵀ and its energy."""
        key = (out_features, rank)
        if key not in self._spectra:
            generator = torch.Generator(device="cpu").manual_seed(self._seed)
            noise = torch.rand(out_features, self._in_features, generator=generator).mul_(2).sub_(1)
            noise = noise.to(self._device)
            scaled = self._scaling.times(noise)
            leading = _leading(scaled, rank, self._recipe, self._seed)
            self._spectra[key] = Spectrum(leading.singular_values, length(scaled) ** 2)
        return self._spectra[key]


class _Judge:
    """Measures attempts at one weight by the exact output error, whatever scaling the method uses."""

    def __init__(
        self, weight: Float[Tensor, "out in"], scaled: Float[Tensor, "out columns"] | None, method: Method
    ) -> None:
        """Measure the lengths that errors are shares of.

        Args:
            scaled: None where the method is exact and knows the length of the output.
        """
        self.method = method
        self._is_exact = method.is_exact
        self._weight_length = length(weight)
        known = method.output_length
        if self._is_exact:
            self.output_length = length(scaled) if known is None and scaled is not None else known or 0.0
            self.scaled_length = self.output_length
        else:
            self.output_length = length(method.exact.times(weight)) if known is None else known
            self.scaled_length = 0.0 if scaled is None else length(scaled)

    def errors(
        self, error: Float[Tensor, "out in"], scaled_error: Float[Tensor, "out columns"], low_rank: _LowRank
    ) -> LayerErrors:
        """Return the errors of Q + LR, given W - Q, the same scaled by the method, and LR."""
        output = scaled_error if self._is_exact else self.method.exact.times(error)
        if not low_rank.left.shape[1]:
            quantized = _ratio(output, self.output_length)
            return LayerErrors(
                output=quantized,
                quantized_output=quantized,
                scaled=_ratio(scaled_error, self.scaled_length),
                weight=_ratio(error, self._weight_length),
                correction=0.0,
            )
        left, right = low_rank.stored_left.to(error), low_rank.stored_right.to(error)
        correction = left @ right
        scaled = _ratio(scaled_error - left @ self.method.scaling.times(right), self.scaled_length)
        remaining_output = scaled
        if not self._is_exact:
            remaining_output = _ratio(output - left @ self.method.exact.times(right), self.output_length)
        return LayerErrors(
            output=remaining_output,
            quantized_output=_ratio(output, self.output_length),
            scaled=scaled,
            weight=_ratio(error - correction, self._weight_length),
            correction=_ratio(correction, length(error)),
        )


def _ratio(matrix: Float[Tensor, "m n"], whole: float) -> float:
    return length(matrix) / whole if whole > 0 else 0.0
