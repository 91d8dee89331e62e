"""How an activation-aware matrix S is made from statistics; one row per kind."""

from srr_core.recipe import AutocorrelationSpec, DiagonalSpec, IdentitySpec, LQERSpec
from srr_core.registry import Registry
from srr_core.scalings.autocorrelation import AutocorrelationScaling
from srr_core.scalings.base import Scaling, ScalingFactor
from srr_core.scalings.diagonal import DiagonalScaling, LQERScaling
from srr_core.scalings.identity import IdentityScaling

SCALINGS: Registry[Scaling] = Registry(
    "scaling",
    {
        IdentitySpec: IdentityScaling,
        LQERSpec: LQERScaling,
        DiagonalSpec: DiagonalScaling,
        AutocorrelationSpec: AutocorrelationScaling,
    },
)

__all__ = ["SCALINGS", "AutocorrelationScaling", "Scaling", "ScalingFactor"]
