"""The workshop score: directions that lead both in the scaled and in the plain weight."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from srr_core.rank_selectors.base import Candidates, RankSelector


class AlignedSelector(RankSelector):
    """Preserve those of the leading r directions whose score ‖W v_i‖ is among the r largest of all.

    Needs every direction, so one symmetric eigenproblem of the size of the output; the other selectors
    need only the leading ones. The set need not be a prefix.

    Source: Preserve then Quantize, workshop slides (2026); the score without an inverse.
    """

    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return the one set."""
        rank = candidates.rank
        scaled = candidates.scaled.to(torch.float64)
        directions = torch.linalg.eigh(scaled @ scaled.mT).eigenvectors.flip(1)
        scores = (directions.mT @ candidates.weight.to(torch.float64)).norm(dim=1)
        leaders = torch.topk(scores, rank).indices
        return [torch.sort(leaders[leaders < rank]).values.cpu()]
