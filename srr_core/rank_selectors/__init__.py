"""How many directions are preserved; one row per kind."""

from srr_core.rank_selectors.aligned import AlignedSelector
from srr_core.rank_selectors.base import Candidates, RankSelector, Spectrum
from srr_core.rank_selectors.fixed import FixedSelector
from srr_core.rank_selectors.spectral import SpectralSelector, VerifiedSelector
from srr_core.recipe import AlignedSpec, FixedSpec, SpectralSpec, VerifiedSpec
from srr_core.registry import Registry

RANK_SELECTORS: Registry[RankSelector] = Registry(
    "rank selector",
    {
        FixedSpec: FixedSelector,
        SpectralSpec: SpectralSelector,
        AlignedSpec: AlignedSelector,
        VerifiedSpec: VerifiedSelector,
    },
)

__all__ = ["RANK_SELECTORS", "Candidates", "RankSelector", "Spectrum"]
