"""QuIP#: make the weight incoherent, then round blocks of eight to a lattice codebook with error feedback.

One scale serves the whole weight, because after the transforms its entries are close to Gaussian. Codes and signs
are all that is stored: `dequantize` needs neither the statistics nor the seed.

Source: Tseng et al., QuIP#, arXiv:2402.04396, without its fine-tuning. From the mathematics, not from its code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Float64, UInt8, UInt16
from torch import Tensor
from typing_extensions import override

from srr_core.linalg.block_ldl import damped_block_ldl
from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.incoherence import Incoherence
from srr_core.quantizers.lattice import CODEBOOKS, WIDTH, LatticeCode
from srr_core.quantizers.ldlq import best_sweep, coordinate_passes
from srr_core.recipe import QuIPSharpSpec
from srr_core.types import QuantizedTensor, Statistics


@dataclass(frozen=True)
class LatticeTensor(QuantizedTensor):
    """Codes of blocks of eight inputs in the transformed weight, the signs that undo the transform, and one scale.

    Inputs are filled up to a multiple of eight; the filling is cut off again by `dequantize`. Rounding in the
    transforms depends on the matrix library: other machines may differ in the last bits of float32.
    """

    layout: ClassVar[str] = "lattice"

    codes: UInt16[Tensor, "out blocks"]
    residual_codes: UInt8[Tensor, "out blocks"] | UInt16[Tensor, "out blocks"] | None
    """None at 2 bits, 8 bits a block at 3, 16 at 4."""
    incoherence: Incoherence
    scale: Float32[Tensor, ""]
    num_bits: int

    @override
    def dequantize(self) -> Float[Tensor, "out in"]:
        """Return the weight these codes stand for, float32. Costs two transforms of the whole weight."""
        points = CODEBOOKS[self.num_bits].decode(LatticeCode(self.codes, self.residual_codes))
        return self.incoherence.restore(points.flatten(1).mul_(self.scale), self.shape[1])

    @override
    def tensors(self) -> Mapping[str, Tensor]:
        """Return every tensor needed to rebuild this value, by short name; signs are booleans, true for minus."""
        named = {
            "codes": self.codes,
            "scale": self.scale,
            "negative_outputs": self.incoherence.negative_outputs,
            "negative_inputs": self.incoherence.negative_inputs,
        }
        return named if self.residual_codes is None else {**named, "residual_codes": self.residual_codes}

    @override
    def code_bits(self) -> Mapping[str, int]:
        """Return the bits of a block's code, and of its second one where there are two."""
        codes = {"codes": self.codes.dtype.itemsize * 8}
        if self.residual_codes is None:
            return codes
        return {**codes, "residual_codes": self.residual_codes.dtype.itemsize * 8}


@dataclass(frozen=True)
class _Plan:
    """What depends on the statistics and the signs of the inputs."""

    gram: Float32[Tensor, "padded padded"]
    lower: Float32[Tensor, "padded padded"]
    notes: tuple[str, ...]


class QuIPSharpQuantizer(Quantizer[QuIPSharpSpec]):
    """Rounds to the lattice codebook of its number of bits.

    Costs in³/3 in float64 per statistics and seed, then (1 + 2 · coordinate_passes) · out·in² in float32 per weight.
    """

    needs_statistics = True

    def __init__(self, spec: QuIPSharpSpec) -> None:
        super().__init__(spec)
        self.codebook = CODEBOOKS[spec.num_bits]

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> LatticeTensor:
        assert statistics is not None  # noqa: S101  # the base has checked it, which mypy cannot see
        out_features, in_features = weight.shape
        padded = in_features + -in_features % WIDTH
        incoherence = Incoherence.draw(out_features, padded, seed=seed, device=weight.device)
        plan = _plan(incoherence.transform_gram(statistics.autocorrelation.to(weight.device)), self.spec.damping)
        target = incoherence.transform(weight).T.contiguous()
        trial_passes = min(1, self.spec.coordinate_passes)
        sweep = best_sweep(target, plan.gram, plan.lower, self.codebook, trial_passes=trial_passes)
        coordinate_passes(sweep, plan.gram, passes=self.spec.coordinate_passes - trial_passes)
        code = sweep.codes.by_row()
        return LatticeTensor(
            shape=(out_features, in_features),
            spec=self.spec,
            codes=code.codes,
            residual_codes=code.residual_codes,
            incoherence=incoherence,
            scale=sweep.scale,
            num_bits=self.spec.num_bits,
            notes=plan.notes,
        )


def _plan(gram: Float64[Tensor, "padded padded"], damping: float) -> _Plan:
    mean = float(gram.diagonal().mean())
    factor = damped_block_ldl(gram, block=WIDTH, damping=damping) if mean > 0 else None
    if factor is None:
        identity = torch.eye(len(gram), device=gram.device)
        reason = "the statistic has no factor at damping 1; QuIP# rounded without error feedback"
        return _Plan(identity, identity, (reason,))
    raised = (f"QuIP# damping was raised from {damping:g} to {factor.damping:g}",)
    return _Plan((gram / mean).to(torch.float32), factor.lower, raised if factor.damping != damping else ())
