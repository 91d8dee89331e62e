"""What a rank selector sees, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from srr_core.linalg.length import length
from srr_core.linalg.truncated_svd import SVDFactors


@dataclass(frozen=True)
class Spectrum:
    """The leading singular values of a matrix and the squared Frobenius norm of the whole of it."""

    singular_values: Float[Tensor, " rank"]
    total_energy: float

    def remaining(self) -> Float[Tensor, " rank_plus_one"]:
        """Return rho_p, the share of energy left after the leading p directions, for p = 0 .. rank."""
        if self.total_energy <= 0:
            return torch.zeros(len(self.singular_values) + 1, dtype=torch.float64)
        kept = torch.cumsum(self.singular_values.to(torch.float64).cpu() ** 2, dim=0) / self.total_energy
        remaining = torch.cat([torch.ones(1, dtype=torch.float64), 1 - kept]).clamp_min(0)
        snap = 1e-6 if self.singular_values.dtype == torch.float32 else 1e-12
        return torch.where(remaining < snap, torch.zeros_like(remaining), remaining)


class Candidates:
    """What one layer offers for preservation. What a selector does not ask for is never computed."""

    def __init__(
        self,
        *,
        rank: int,
        weight: Float[Tensor, "out in"],
        scaled: Float[Tensor, "out columns"],
        leading_directions: Callable[[], SVDFactors],
        probe: Callable[[], Spectrum],
    ) -> None:
        self.rank = rank
        """The rank budget r, not larger than the layer."""
        self.weight = weight
        self.scaled = scaled
        self._leading_directions = leading_directions
        self.probe = probe
        """Gives the spectrum of scaled white noise of the shape of the weight; cached per group."""

    @cached_property
    def directions(self) -> SVDFactors:
        """The leading r singular directions of the scaled weight."""
        return self._leading_directions()

    @property
    def known_values(self) -> Float[Tensor, " rank"] | None:
        """The singular values of the scaled weight, where a selector asked for its directions."""
        found: SVDFactors | None = self.__dict__.get("directions")
        return None if found is None else found.singular_values

    @property
    def spectrum(self) -> Spectrum:
        """The spectrum of the scaled weight."""
        return Spectrum(self.directions.singular_values, length(self.scaled) ** 2)


class RankSelector(ABC):
    """Chooses which of the leading r directions of the scaled weight are preserved."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    @abstractmethod
    def choices(self, candidates: Candidates) -> Sequence[Int[Tensor, " preserved"]]:
        """Return sets of indices into the leading directions; several are to be judged by their true error."""


def leading(count: int) -> Int[Tensor, " preserved"]:
    """Return the indices of the leading `count` directions."""
    return torch.arange(count)
