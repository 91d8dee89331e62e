"""The identities of the method (spec 10.3), on random layers with decaying inputs."""

from dataclasses import replace

import pytest
import torch

import srr_core.srr
from srr_core.errors import NumericalError
from srr_core.linalg.truncated_svd import SVDFactors
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import PRESETS, FixedSpec, IdentitySpec, MXIntSpec, Recipe, override
from srr_core.scalings import SCALINGS
from srr_core.srr import WhiteNoiseProbe, decompose, measured, project
from srr_core.types import Statistics
from tests.srr_core.problems import Problem, build_method, output_length, random_problem, rebuild, solve

SMALL = {"rank": 8, "quantizer.block_size": 16}
ONE_PASS = ("qera-exact", "srr-paper", "srr", "srr-naive", "srr-aligned", "srr-verified")


def _recipe(name: str, **changes: object) -> Recipe:
    return override(PRESETS[name], {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})


@pytest.mark.parametrize("name", ONE_PASS)
def test_reported_errors_are_those_of_the_definition(name: str) -> None:
    problem = random_problem()
    result = solve(problem, _recipe(name))

    weight = problem.weight.to(torch.float64)
    left = weight - rebuild(result)
    expected = output_length(left, problem.statistics) / output_length(weight, problem.statistics)
    assert result.errors.output == pytest.approx(expected, rel=1e-4)
    quantized = weight - result.quantized.dequantize()
    assert result.errors.quantized_output == pytest.approx(
        output_length(quantized, problem.statistics) / output_length(weight, problem.statistics), rel=1e-4
    )
    assert result.errors.weight == pytest.approx(float(left.norm() / weight.norm()), rel=1e-4)
    assert result.errors.scaled == pytest.approx(result.errors.output, rel=1e-6)


def test_the_projector_equals_the_form_with_an_inverse() -> None:
    problem = random_problem(dtype=torch.float64)
    # The identity is of exact singular vectors, so the sketch must have converged.
    result = solve(problem, _recipe("qera-exact", sketch__power_iterations=12))

    error = (problem.weight - result.quantized.dequantize()).mT
    values, vectors = torch.linalg.eigh(problem.statistics.autocorrelation)
    root = (vectors * values.sqrt()) @ vectors.mT
    left, singular, right = torch.linalg.svd(root @ error)
    expected = torch.linalg.solve(root, (left[:, :8] * singular[:8]) @ right[:8])

    found = (result.left.to(torch.float64) @ result.right.to(torch.float64)).mT  # type: ignore[union-attr]
    assert float((found - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("exponent", [1, 6, 12])
def test_the_correction_is_never_longer_than_the_error(exponent: int) -> None:
    problem = random_problem()
    basis = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    gram = (basis * torch.logspace(0, -exponent, 64, dtype=torch.float64)) @ basis.mT
    ill = Problem(problem.weight, Statistics((gram + gram.mT) / 2, gram.diagonal().sqrt(), 1000))

    result = solve(ill, _recipe("qera-exact"))

    assert 0 < result.errors.correction <= 1 + 1e-3


def test_dead_inputs_leave_the_result_finite() -> None:
    problem = random_problem()
    gram = problem.statistics.autocorrelation.clone()
    gram[:10] = 0
    gram[:, :10] = 0
    dead = Problem(problem.weight, Statistics(gram, gram.diagonal().sqrt(), 1000))

    result = solve(dead, _recipe("srr"))

    assert torch.isfinite(rebuild(result)).all()
    assert result.errors.output < result.errors.quantized_output
    assert any("never fired" in note for note in result.notes)


@pytest.mark.parametrize("scaling", ["identity", "lqer", "diagonal", "autocorrelation"])
@pytest.mark.parametrize(("shape", "rank"), [((96, 128), 16), ((256, 128), 24), ((512, 1024), 64)])
def test_the_sketch_and_the_dense_spectrum_choose_the_same_rank(
    scaling: str, shape: tuple[int, int], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = random_problem(*shape, decay=0.5)
    recipe = override(PRESETS["srr"], {"rank": rank, "scaling.kind": scaling})
    sketched = solve(problem, recipe).preserved_rank

    def dense(matrix: torch.Tensor, count: int, **_: object) -> SVDFactors:
        left, values, _right = torch.linalg.svd(matrix, full_matrices=False)
        return SVDFactors(left[:, :count], values[:count])

    monkeypatch.setattr(srr_core.srr, "truncated_svd", dense)
    assert sketched == solve(problem, recipe).preserved_rank
    assert sketched > 0


@pytest.mark.parametrize("name", ["srr", "srr-paper"])
def test_preserving_nothing_is_plain_error_reconstruction(name: str) -> None:
    problem = random_problem()
    nothing = _recipe(name).model_copy(update={"rank_selector": FixedSpec(fraction=0.0)})
    assert torch.allclose(rebuild(solve(problem, nothing)), rebuild(solve(problem, _recipe("qera-exact"))), atol=1e-6)


def test_the_exact_scaling_of_independent_inputs_is_the_diagonal_one() -> None:
    problem = random_problem()
    variances = problem.statistics.autocorrelation.diagonal()
    apart = Problem(problem.weight, Statistics(torch.diag(variances), variances.sqrt(), 1000))
    exact, approx = (solve(apart, _recipe(name, sketch__power_iterations=8)) for name in ("qera-exact", "qera-approx"))
    torch.testing.assert_close(rebuild(exact), rebuild(approx), rtol=0, atol=1e-6)


def test_the_identity_scaling_is_the_truncated_svd_of_the_error() -> None:
    problem = random_problem(dtype=torch.float64)
    result = solve(problem, _recipe("zeroquant-v2"))
    error = problem.weight - result.quantized.dequantize()
    best = torch.linalg.svdvals(error)[8:].norm()
    assert float((problem.weight - rebuild(result)).norm()) == pytest.approx(float(best), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_joint_refit_is_never_worse_than_concatenation(seed: int) -> None:
    problem = random_problem(seed=seed)
    selector = FixedSpec(fraction=0.5)
    joint = _recipe("srr").model_copy(update={"rank_selector": selector})
    concat = _recipe("srr-paper").model_copy(update={"rank_selector": selector})
    assert solve(problem, joint).errors.output <= solve(problem, concat).errors.output * (1 + 1e-3)


def test_the_joint_loss_of_a_fixed_quantization_falls_with_the_rank() -> None:
    problem = random_problem()
    errors = [solve(problem, _recipe("qera-exact", rank=rank)).errors.output for rank in (1, 2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("rank", [48, 1000])
def test_full_rank_reconstructs_the_weight(rank: int) -> None:
    problem = random_problem()
    result = solve(problem, _recipe("qera-exact", rank=rank))
    assert result.errors.weight < 1e-5
    assert result.left is not None
    assert result.left.shape == (48, 48)


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (5, 5), (100, 8)])
def test_a_number_of_directions_is_preserved_as_far_as_the_rank_goes(count: int, expected: int) -> None:
    recipe = _recipe("srr", rank_selector={"kind": "fixed", "count": count})
    assert solve(random_problem(), recipe).preserved_rank == expected


def test_a_clamped_rank_is_noted() -> None:
    assert any("clamped" in note for note in solve(random_problem(), _recipe("srr", rank=100)).notes)


def test_rank_zero_is_the_quantizer_alone() -> None:
    problem = random_problem()
    result = solve(problem, _recipe("weight-only", rank=0))
    quantizer = QUANTIZERS.build(MXIntSpec(block_size=16))
    assert result.left is None
    assert torch.equal(result.quantized.dequantize(), quantizer.quantize(problem.weight).dequantize())


@pytest.mark.parametrize("name", ["srr-iterative", "srr-verified"])
def test_the_best_of_what_was_tried_is_returned(name: str) -> None:
    problem = random_problem(seed=2)
    tried = [_recipe("srr"), _recipe("srr", iterations=2)]
    if name == "srr-verified":
        tried = [_recipe("srr"), _recipe("qera-exact"), _recipe("srr-naive")]
    best = min(solve(problem, recipe).errors.output for recipe in tried)
    assert solve(problem, _recipe(name)).errors.output <= best * (1 + 1e-6)


def test_lq_lora_keeps_the_factors_of_its_last_round() -> None:
    problem = random_problem()
    result = solve(problem, _recipe("lq-lora"))
    rest = problem.weight - (rebuild(result) - result.quantized.dequantize()).to(torch.float32)
    again = QUANTIZERS.build(MXIntSpec(block_size=16)).quantize(rest)
    assert result.iterations == 5
    assert float((again.dequantize() != result.quantized.dequantize()).float().mean()) < 0.01


def test_loftq_is_its_published_loop() -> None:
    problem = random_problem(dtype=torch.float64)
    # As wide as the matrix, so that every singular vector is exact.
    recipe = override(PRESETS["loftq"], {"rank": 8, "sketch.oversampling": 8})
    quantizer = QUANTIZERS.build(recipe.quantizer)

    low_rank = torch.zeros_like(problem.weight)
    for _ in range(5):
        quantized = quantizer.quantize(problem.weight - low_rank).dequantize().to(torch.float64)
        left, values, right = torch.linalg.svd(problem.weight - quantized, full_matrices=False)
        low_rank = (left[:, :8] * values[:8]) @ right[:8]

    torch.testing.assert_close(rebuild(solve(problem, recipe)), quantized + low_rank, rtol=0, atol=1e-9)


def test_a_layer_of_zeros_stays_zero() -> None:
    problem = random_problem()
    zeros = Problem(torch.zeros_like(problem.weight), problem.statistics)
    result = solve(zeros, _recipe("srr"))
    assert result.preserved_rank == 0
    assert float(rebuild(result).abs().max()) == 0
    assert result.errors.output == 0


def test_same_seed_gives_the_same_bits_and_the_weight_is_not_modified() -> None:
    problem = random_problem()
    before = problem.weight.clone()
    first, second = solve(problem, _recipe("srr")), solve(problem, _recipe("srr"))
    assert torch.equal(rebuild(first), rebuild(second))
    assert torch.equal(problem.weight, before)


def test_balanced_factors_have_equal_norms_on_both_sides() -> None:
    result = solve(random_problem(), _recipe("srr"))
    assert result.left is not None
    assert result.right is not None
    torch.testing.assert_close(result.left.norm(dim=0), result.right.norm(dim=1), rtol=1e-3, atol=1e-6)


def test_directions_that_are_not_orthonormal_are_refused() -> None:
    with pytest.raises(NumericalError, match="projection"):
        project(torch.ones(4, 4), 2 * torch.eye(4))


def test_a_direction_given_twice_is_refused_though_its_coordinates_are_short() -> None:
    matrix = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    twice = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert float((twice.mT @ matrix).norm()) < float(matrix.norm()) < float((twice @ twice.mT @ matrix).norm())
    with pytest.raises(NumericalError, match="length 4 came from a matrix"):
        project(matrix, twice)


def test_stored_factors_longer_than_the_error_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    balanced = srr_core.srr._balanced  # nothing but a fault in it makes this error

    def faulty(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> object:
        found = balanced(left, right, dtype)
        return replace(found, stored_left=2 * found.stored_left)

    monkeypatch.setattr("srr_core.srr._balanced", faulty)
    with pytest.raises(NumericalError, match="times as long as the error it corrects"):
        solve(random_problem(), _recipe("qera-exact", rank=40))


@pytest.mark.parametrize("rank", [1, 8, 48])
def test_rounding_the_factors_to_16_bits_is_no_reason_to_refuse(rank: int) -> None:
    problem, recipe = random_problem(), _recipe("qera-exact", rank=rank)
    method = build_method(recipe, problem.statistics, factor_dtype=torch.bfloat16)
    result = decompose(problem.weight, method, QUANTIZERS.build(recipe.quantizer).quantize)
    assert 0 < result.errors.correction < 1.01


def test_the_probe_is_computed_once_for_layers_of_one_group() -> None:
    problem = random_problem()
    method = build_method(_recipe("srr"), problem.statistics)
    assert method.probe(48, 8) is method.probe(48, 8)
    assert method.probe(48, 8) is not method.probe(24, 8)


def test_weighted_losses_of_the_identity_scaling_are_still_of_the_output() -> None:
    problem = random_problem()
    recipe = _recipe("srr").model_copy(update={"scaling": IdentitySpec()})
    result = solve(problem, recipe)
    expected = output_length(problem.weight - rebuild(result), problem.statistics)
    total = output_length(problem.weight, problem.statistics)
    assert result.errors.output == pytest.approx(expected / total, rel=1e-4)
    assert result.errors.scaled == pytest.approx(result.errors.weight, rel=1e-6)


@pytest.mark.parametrize("num_live", [0, 1, 5])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_fewer_live_inputs_than_ranks_are_no_error(name: str, num_live: int) -> None:
    problem = random_problem()
    gram = problem.statistics.autocorrelation.clone()
    gram[num_live:], gram[:, num_live:] = 0, 0
    dying = Problem(problem.weight, Statistics(gram, gram.diagonal().sqrt(), 1000))

    result = solve(dying, override(PRESETS[name], {"rank": min(PRESETS[name].rank, 8)}))

    assert bool(torch.isfinite(rebuild(result)).all())
    assert 0 <= result.errors.output <= 1 + 1e-6


@pytest.mark.parametrize(("keep_best", "kept", "num_bits"), [(True, 2, 8), (False, 3, 2)])
def test_the_best_round_is_kept_or_the_last_as_the_recipe_says(keep_best: bool, kept: int, num_bits: int) -> None:
    # The rounds differ in bits, so that the best is neither the first nor the last.
    problem = random_problem()
    rounds = iter(QUANTIZERS.build(MXIntSpec(num_bits=bits)) for bits in (4, 8, 2))
    recipe = _recipe("srr-iterative", iterations=3, keep_best=keep_best, rank_selector={"kind": "fixed"})

    result = decompose(
        problem.weight, build_method(recipe, problem.statistics), lambda weight: next(rounds).quantize(weight)
    )

    assert result.iterations == kept
    assert result.quantized.spec == MXIntSpec(num_bits=num_bits)
    error = output_length(problem.weight - rebuild(result), problem.statistics)
    assert result.errors.output == pytest.approx(error / output_length(problem.weight, problem.statistics), rel=1e-4)


def test_the_probe_is_white_noise_around_zero() -> None:
    # Entries of U[-1, 1] have the variance 1/3; their largest singular value is near (√m + √n)/√3, of noise around
    # another mean it grows with √(mn).
    recipe = _recipe("srr", scaling={"kind": "identity"})
    scaling = SCALINGS.build(IdentitySpec()).factor(random_problem().statistics)

    spectrum = WhiteNoiseProbe(scaling, 400, recipe, seed=7)(300, 4)

    assert spectrum.total_energy == pytest.approx(300 * 400 / 3, rel=0.02)
    assert float(spectrum.singular_values[0]) == pytest.approx((300**0.5 + 400**0.5) / 3**0.5, rel=0.05)


def test_first_ranks_span_the_preserved_directions_exactly_when_they_are_kept_and_mostly_after_a_refit() -> None:
    problem = random_problem()
    kept, refitted = (solve(problem, _recipe(name)) for name in ("srr-paper", "srr"))

    assert kept.preserved_rank == refitted.preserved_rank > 0
    assert kept.preserved_overlap == pytest.approx(1, abs=1e-4)
    assert refitted.preserved_overlap is not None
    chance = refitted.preserved_rank / problem.weight.shape[0]
    assert 5 * chance < refitted.preserved_overlap < 1
    assert solve(problem, _recipe("qera-exact")).preserved_overlap is None


def test_a_result_without_factors_is_measured_again_like_any_other() -> None:
    problem, recipe = random_problem(), _recipe("weight-only", rank=0)
    result = solve(problem, recipe)
    assert result.left is None

    stale = replace(result, errors=replace(result.errors, output=9.0, weight=9.0))
    again = measured(problem.weight, stale, build_method(recipe, problem.statistics))

    assert again.errors == result.errors


def test_the_spectra_are_those_of_the_scaled_weight_and_of_the_error_of_q() -> None:
    problem = random_problem()
    recipe = _recipe("srr", sketch__power_iterations=12)
    result = solve(problem, recipe)

    scaling = build_method(recipe, problem.statistics).scaling
    weight = torch.linalg.svdvals(scaling.times(problem.weight))
    error = torch.linalg.svdvals(scaling.times(problem.weight - result.quantized.dequantize()))
    assert result.spectra is not None
    assert result.spectra.weight == pytest.approx((weight[:8] / weight.norm()).tolist(), rel=2e-3)
    assert result.spectra.error == pytest.approx((error[:8] / weight.norm()).tolist(), rel=2e-3)


def test_without_a_rank_nothing_is_decomposed_and_a_known_length_changes_no_error() -> None:
    problem, recipe = random_problem(), _recipe("qera-exact", rank=0)
    first = solve(problem, recipe)

    method = replace(build_method(recipe, problem.statistics), output_length=first.output_length)
    quantizer = QUANTIZERS.build(recipe.quantizer)
    again = decompose(problem.weight, method, lambda weight: quantizer.quantize(weight, problem.statistics, seed=0))

    assert first.spectra is None
    assert again.errors == first.errors
    assert first.output_length == pytest.approx(output_length(problem.weight, problem.statistics), rel=1e-5)
