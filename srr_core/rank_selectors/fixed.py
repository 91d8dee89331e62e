"""A share of the rank, the same for every layer."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from srr_core.rank_selectors.base import Candidates, RankSelector, leading


class FixedSelector(RankSelector):
    """Preserve the leading fraction of the rank: 0 is error reconstruction, 1 takes out all r directions."""

    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return the one prefix."""
        return [leading(round(self.spec.fraction * candidates.rank))]
