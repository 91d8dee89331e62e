"""The paper's criterion: k* from the spectra of the scaled weight and of scaled noise."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from srr_core.rank_selectors.base import Candidates, RankSelector, Spectrum, leading


def predicted_error(weight: Spectrum, noise: Spectrum) -> Float[Tensor, " rank_plus_one"]:
    """Return rho_k(SW) · rho_{r-k}(SE), proportional to the squared error expected of each split k.

    Quantization noise is taken to be a constant share of what is quantized, with the spectrum of white noise.

    Source: SRR, arXiv:2602.02001, equation of section 4.
    """
    return weight.remaining() * noise.remaining().flip(0)


def spectral_rank(weight: Spectrum, noise: Spectrum) -> int:
    """Return k*, the first minimiser of the predicted error."""
    if weight.total_energy <= 0:
        return 0
    return int(torch.argmin(predicted_error(weight, noise)))


class SpectralSelector(RankSelector):
    """Preserve the leading k* directions."""

    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return the one prefix."""
        return [leading(spectral_rank(candidates.spectrum, candidates.probe()))]


class VerifiedSelector(RankSelector):
    """Offer k = 0, k* and r, to be judged by the true error: never worse than any of the three."""

    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return the distinct prefixes among the three."""
        best = spectral_rank(candidates.spectrum, candidates.probe())
        return [leading(count) for count in sorted({0, best, candidates.rank})]
