"""Random signs and Hadamard transforms on both sides of a weight: no entry stands out, so one scale serves all.

    W̃ = Had D(s_out) W D(s_in) Hadᵀ        H̃ = Had D(s_in) H D(s_in) Hadᵀ

Source: Tseng et al., QuIP#, arXiv:2402.04396, section 3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from srr_core.linalg.hadamard import hadamard_transform


@dataclass(frozen=True)
class Incoherence:
    """The signs of one weight. Inputs are filled up with zeros to the number of input signs."""

    negative_outputs: Bool[Tensor, " out"]
    negative_inputs: Bool[Tensor, " padded"]

    @classmethod
    def draw(cls, out_features: int, padded_inputs: int, *, seed: int, device: torch.device) -> "Incoherence":
        """Return random signs; the same seed gives the same signs on every device."""
        generator = torch.Generator().manual_seed(seed)
        flips = torch.randint(0, 2, (out_features + padded_inputs,), generator=generator).to(torch.bool)
        outputs, inputs = flips.to(device).tensor_split([out_features])
        return cls(outputs, inputs)

    def transform(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out padded"]:
        """Return W̃."""
        filled = pad(weight, (0, len(self.negative_inputs) - weight.shape[1]))
        rows = hadamard_transform(filled * _signs(self.negative_inputs, weight))
        return hadamard_transform((rows * _signs(self.negative_outputs, weight)[:, None]).T).T

    def restore(self, transformed: Float[Tensor, "out padded"], in_features: int) -> Float[Tensor, "out in"]:
        """Return the weight whose transform this is, up to rounding."""
        columns = (
            hadamard_transform(transformed.T, inverse=True).T * _signs(self.negative_outputs, transformed)[:, None]
        )
        rows = hadamard_transform(columns, inverse=True) * _signs(self.negative_inputs, transformed)
        return rows[:, :in_features].contiguous()

    def transform_gram(self, gram: Float[Tensor, "in in"]) -> Float[Tensor, "padded padded"]:
        """Return H̃, the autocorrelation of the inputs as W̃ sees them."""
        missing = len(self.negative_inputs) - len(gram)
        signs = _signs(self.negative_inputs, gram)
        flipped = pad(gram, (0, missing, 0, missing)) * signs * signs[:, None]
        return hadamard_transform(hadamard_transform(flipped).T)


def _signs(negative: Bool[Tensor, " count"], like: Tensor) -> Float[Tensor, " count"]:
    return torch.where(negative, -1.0, 1.0).to(like)
