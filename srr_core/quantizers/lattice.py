"""The lattice codebooks of QuIP# at 2, 3 and 4 bits: E8P, and a second code for what E8P leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int32, Integer
from torch import Tensor

from srr_core.quantizers import e8_roots, e8p
from srr_core.quantizers.e8p import WIDTH


@dataclass(frozen=True)
class PointSet:
    """Points in eight dimensions that can be searched, and the type that just holds their codes."""

    nearest: Callable[[Float32[Tensor, "8 count"]], tuple[Int32[Tensor, " count"], Float32[Tensor, "8 count"]]]
    decode: Callable[[Int32[Tensor, "*shape"]], Float32[Tensor, "*shape 8"]]
    code_dtype: torch.dtype


_E8P = PointSet(e8p.nearest, e8p.decode, torch.uint16)
_E8_ROOTS = PointSet(e8_roots.nearest, e8_roots.decode, torch.uint8)


class LatticeCode(NamedTuple):
    """One or two codes per vector of eight weights."""

    codes: Integer[Tensor, "*shape"]
    residual_codes: Integer[Tensor, "*shape"] | None


@dataclass(frozen=True)
class LatticeCodebook:
    """Vectors of eight Gaussian weights of about unit size, as one or two codes."""

    root_mean_squares: tuple[float, ...]
    """What the weights may be scaled to beforehand; which is best depends on how much feedback is added to them."""
    residual: PointSet | None
    residual_scale: float
    """The residual is multiplied by this before it is rounded."""

    def nearest(self, vectors: Float32[Tensor, "8 count"]) -> tuple[LatticeCode, Float32[Tensor, "8 count"]]:
        """Return the codes of each column, and the vector they stand for.

        With a residual the two codes are chosen one after the other, so a nearer pair may exist.
        """
        codes, values = e8p.nearest(vectors)
        if self.residual is None:
            return LatticeCode(codes, None), values
        residual_codes, residuals = self.residual.nearest((vectors - values) * self.residual_scale)
        return LatticeCode(codes, residual_codes), values + residuals / self.residual_scale

    def decode(self, code: LatticeCode) -> Float32[Tensor, "*shape 8"]:
        """Return the vectors of some codes, bit for bit those `nearest` has returned."""
        values = e8p.decode(code.codes.to(torch.int32))
        if self.residual is None or code.residual_codes is None:
            return values
        return values + self.residual.decode(code.residual_codes.to(torch.int32)) / self.residual_scale


CODEBOOKS: Mapping[int, LatticeCodebook] = MappingProxyType(
    {
        2: LatticeCodebook(root_mean_squares=(0.9, 1.03), residual=None, residual_scale=1.0),
        3: LatticeCodebook(root_mean_squares=(0.9, 0.98), residual=_E8_ROOTS, residual_scale=2.04),
        4: LatticeCodebook(root_mean_squares=(0.9, 1.03), residual=_E8P, residual_scale=3.45),
    }
)
"""By bits per weight. The second root mean square and the residual scale are those of the authors' code, which
minimize the error on Gaussian vectors. Feedback widens what is rounded, and the authors recommend 0.9 at 2 bits."""

__all__ = ["CODEBOOKS", "WIDTH", "LatticeCode", "LatticeCodebook"]
