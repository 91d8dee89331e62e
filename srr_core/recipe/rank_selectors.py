"""How many singular directions of the scaled weight are kept out of quantization."""

from typing import Annotated, Literal

from pydantic import Field

from srr_core.recipe.base import Spec


class FixedSpec(Spec):
    """A share of the rank or a number of directions: 0 is plain error reconstruction, all preserves with the rank."""

    kind: Literal["fixed"] = "fixed"
    fraction: float = Field(default=0.0, ge=0.0, le=1.0, description="Of the rank.")
    count: int | None = Field(
        default=None, ge=0, description="Directions, at most the rank; where it is given, fraction does not count."
    )

    def preserved(self, rank: int) -> int:
        """Return k, 0 <= k <= rank."""
        return round(self.fraction * rank) if self.count is None else min(self.count, rank)


class SpectralSpec(Spec):
    """The paper's k*: the split with the smallest predicted error, from two spectra.

    Source: SRR, arXiv:2602.02001, section 4.
    """

    kind: Literal["spectral"] = "spectral"


class AlignedSpec(Spec):
    """The workshop score: those of the leading r directions that also lead by their unscaled size.

    Source: Preserve then Quantize, workshop slides (2026).
    """

    kind: Literal["aligned"] = "aligned"


class VerifiedSpec(Spec):
    """Tries nothing, k* and everything, and keeps the one with the smallest true error."""

    kind: Literal["verified"] = "verified"


RankSelectorSpec = Annotated[FixedSpec | SpectralSpec | AlignedSpec | VerifiedSpec, Field(discriminator="kind")]
