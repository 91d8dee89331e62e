"""k* on spectra whose answer is known."""

import pytest
import torch

from srr_core.rank_selectors import Spectrum
from srr_core.rank_selectors.spectral import predicted_error, spectral_rank

RANK = 16


def _spectrum(singular_values: torch.Tensor, rank: int = RANK) -> Spectrum:
    return Spectrum(singular_values[:rank], float((singular_values**2).sum()))


def _white(height: int = 96, width: int = 80, seed: int = 0) -> Spectrum:
    noise = torch.rand(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    return _spectrum(torch.linalg.svdvals(noise))


def _power_law(exponent: float) -> Spectrum:
    return _spectrum(torch.arange(1, 81, dtype=torch.float64) ** -exponent)


@pytest.mark.parametrize(("exponent", "expected"), [(0.2, 1), (0.5, 12), (1.0, 16), (1.5, 16)])
def test_power_law_spectra_give_the_ranks_of_the_specification(exponent: float, expected: int) -> None:
    assert abs(spectral_rank(_power_law(exponent), _white()) - expected) <= 1


@pytest.mark.parametrize("exact_rank", [0, 1, 5, 15, 16])
def test_a_weight_of_exact_rank_is_preserved_to_that_rank(exact_rank: int) -> None:
    values = torch.zeros(80, dtype=torch.float64)
    values[:exact_rank] = torch.linspace(3, 1, exact_rank, dtype=torch.float64)
    spectrum = Spectrum(values[:RANK], max(float((values**2).sum()), 0.0))
    assert spectral_rank(spectrum, _white()) == exact_rank


def test_the_curve_of_white_noise_is_nearly_flat() -> None:
    curve = predicted_error(_white(seed=1), _white(seed=2))
    assert curve.max() / curve.min() < 1.03


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_rank_of_another_probe_is_predicted_to_be_as_good(seed: int) -> None:
    # At 96 x 80 the curve is so flat that k* itself moves between 11 and 14; its value moves by 1 %.
    weight = _power_law(0.5)
    curve = predicted_error(weight, _white(seed=0))
    assert curve[spectral_rank(weight, _white(seed=seed))] <= 1.015 * curve.min()


def test_remaining_energy_starts_at_one_and_falls() -> None:
    remaining = _power_law(0.7).remaining()
    assert remaining[0] == 1
    assert (remaining.diff() <= 0).all()
