"""QuIP# without undoing its transforms on the weight: the activations are transformed instead.

The weight is W = D_out Mᵀ T M D_in with T the decoded points, so x·Wᵀ = ((x D_in Mᵀ) Tᵀ) M D_out: two transforms
of the activations, and points decoded some rows at a time.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from srr_core.formats.lattice_codec import LatticeCodec, blocks_of
from srr_core.kernels.paths import Buffers, Case, MatmulPath, as_bits, compute_dtype, tile_rows
from srr_core.linalg.hadamard import hadamard_transform
from srr_core.quantizers.lattice import CODEBOOKS, WIDTH, LatticeCode
from srr_core.quantizers.quip_sharp import LatticeTensor
from srr_core.types import QuantizedTensor

_PREFIX = "lattice_"


class LatticePath(MatmulPath):
    """Serves lattice codes on any device; the transforms cost O(n log n) per token and side."""

    name = "lattice"
    serves_text = "QuIP# of 2, 3 and 4 bits, any dtype, any device, any batch"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if not isinstance(case.codec, LatticeCodec):
            raise TypeError("the lattice path needs lattice codes")
        self.lattice = case.codec
        self.codebook = CODEBOOKS[case.codec.spec.num_bits]

    @classmethod
    @override
    def serves(cls, case: Case) -> bool:
        """Whether the codes are a lattice's."""
        return isinstance(case.codec, LatticeCodec)

    @override
    def prepare(self, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of the file; the scale as its bit pattern."""
        tensors = self.codec.pack("the layer", quantized)
        return {
            f"{_PREFIX}{name}": as_bits(tensor) if tensor.is_floating_point() else tensor.contiguous()
            for name, tensor in tensors.items()
        }

    @override
    def restore(self, buffers: Buffers) -> LatticeTensor:
        """Return the weight the buffers were prepared from."""
        declared = self.codec.declared(self.shape)
        tensors = {name: buffers[f"{_PREFIX}{name}"].view(entry.dtype) for name, entry in declared.items()}
        return self.lattice.rebuild(self.shape, tensors)

    @override
    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        weight = self.restore(buffers)
        wide = x.to(compute_dtype(x))
        filled = pad(wide, (0, blocks_of(self.shape[1]) * WIDTH - self.shape[1]))
        turned = hadamard_transform(filled * _signs(weight.incoherence.negative_inputs, wide))
        y = torch.empty((x.shape[0], self.shape[0]), dtype=wide.dtype, device=x.device)
        for start, points in self._tiles(weight, wide):
            torch.mm(turned, points.t(), out=y[:, start : start + len(points)])
        restored = hadamard_transform(y, inverse=True) * _signs(weight.incoherence.negative_outputs, wide)
        return restored.to(x.dtype)

    @override
    def multiply_transposed(self, buffers: Buffers, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·W in the dtype of y."""
        weight = self.restore(buffers)
        wide = y.to(compute_dtype(y))
        turned = hadamard_transform(wide * _signs(weight.incoherence.negative_outputs, wide))
        columns = blocks_of(self.shape[1]) * WIDTH
        x = torch.zeros((y.shape[0], columns), dtype=wide.dtype, device=y.device)
        for start, points in self._tiles(weight, wide):
            x.addmm_(turned[:, start : start + len(points)], points)
        restored = hadamard_transform(x, inverse=True) * _signs(weight.incoherence.negative_inputs, wide)
        return restored[:, : self.shape[1]].to(y.dtype)

    def _tiles(self, weight: LatticeTensor, like: Tensor) -> Iterator[tuple[int, Tensor]]:
        rows = tile_rows(self.shape[1], like.device)
        for start in range(0, self.shape[0], rows):
            chosen = slice(start, start + rows)
            residual = None if weight.residual_codes is None else weight.residual_codes[chosen]
            points = self.codebook.decode(LatticeCode(weight.codes[chosen], residual)).flatten(1)
            yield start, (points * weight.scale).to(like.dtype)


def _signs(negative: Tensor, like: Tensor) -> Tensor:
    return torch.where(negative, -1.0, 1.0).to(like)
