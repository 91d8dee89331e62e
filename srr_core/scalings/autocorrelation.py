"""Full S: the exact measure of a layer's output error."""

from jaxtyping import Float
from torch import Tensor

from srr_core.linalg.psd_factor import PSDFactor, psd_factor
from srr_core.scalings.base import Scaling, ScalingFactor
from srr_core.types import Statistics


class AutocorrelationFactor(ScalingFactor):
    """S with SᵀS = mean of xᵀx, so that ‖A·Sᵀ‖² is the mean squared output of a layer with weight A."""

    def __init__(self, factor: PSDFactor) -> None:
        self._factor = factor
        dead = "" if factor.live is None else "some inputs never fired in calibration"
        ridge = f"the statistic is singular: {factor.ridge:g} of its diagonal was added" if factor.ridge else ""
        indefinite = "" if factor.is_triangular else "the statistic is singular: its eigenfactor was used"
        self.notes = tuple(note for note in (dead, ridge, indefinite) if note)
        self.condition = factor.condition

    def times(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out columns"]:
        """Return matrix · Sᵀ in float32."""
        return self._factor.times(matrix)


class AutocorrelationScaling(Scaling):
    """Any factor of the autocorrelation of the inputs. Source: QERA-exact, arXiv:2410.06040, theorem 1."""

    def factor(self, statistics: Statistics) -> ScalingFactor:
        """Return a Cholesky factor, of a statistic raised a little where it is singular; see psd_factor."""
        return AutocorrelationFactor(psd_factor(statistics.autocorrelation))
