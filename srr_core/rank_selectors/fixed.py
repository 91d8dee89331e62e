"""The same share of the rank, or the same number, for every layer."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from srr_core.rank_selectors.base import Candidates, RankSelector, leading


class FixedSelector(RankSelector):
    """Preserve as many leading directions as the recipe says: 0 is error reconstruction, r takes out all."""

    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return the one prefix."""
        return [leading(self.spec.preserved(candidates.rank))]
