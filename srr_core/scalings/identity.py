"""S = I: the plain error of the weights."""

from jaxtyping import Float
from torch import Tensor

from srr_core.scalings.base import Scaling, ScalingFactor
from srr_core.types import Statistics


class _Identity(ScalingFactor):
    def times(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out columns"]:
        """Return the matrix itself."""
        return matrix


class IdentityScaling(Scaling):
    """Every input counts the same. Source: ZeroQuant-V2, arXiv:2303.08302."""

    def factor(self, statistics: Statistics) -> ScalingFactor:
        """Return the identity."""
        return _Identity()
