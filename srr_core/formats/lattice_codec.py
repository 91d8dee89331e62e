"""QuIP# codes in our own layout: a flat list of codes, signs as bits, one scale."""

from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from srr_core.errors import ExportError
from srr_core.formats.codecs import Codec, Declared
from srr_core.formats.packing import pack_bits, unpack_bits
from srr_core.quantizers.incoherence import Incoherence
from srr_core.quantizers.lattice import CODEBOOKS, WIDTH
from srr_core.quantizers.quip_sharp import LatticeTensor
from srr_core.recipe import QuIPSharpSpec
from srr_core.types import QuantizedTensor

CODES = "weight"
RESIDUAL = "weight_residual"
NEGATIVE_OUTPUTS = "weight_negative_outputs"
NEGATIVE_INPUTS = "weight_negative_inputs"
SCALE = "weight_scale"


class LatticeCodec(Codec):
    """One or two codes per block of eight inputs."""

    def __init__(self, spec: QuIPSharpSpec) -> None:
        self.spec = spec
        residual = CODEBOOKS[spec.num_bits].residual
        self.residual_dtype = None if residual is None else residual.code_dtype

    @override
    def declared(self, shape: tuple[int, int]) -> dict[str, Declared]:
        """Return every tensor of a layer of this (out, in) shape, by suffix."""
        blocks = blocks_of(shape[1])
        tensors = {CODES: Declared(torch.uint16, (shape[0] * blocks,))}
        if self.residual_dtype is not None:
            tensors[RESIDUAL] = Declared(self.residual_dtype, (shape[0] * blocks,))
        tensors[NEGATIVE_OUTPUTS] = Declared(torch.uint8, (-(-shape[0] // 8),))
        tensors[NEGATIVE_INPUTS] = Declared(torch.uint8, (blocks * WIDTH // 8,))
        tensors[SCALE] = Declared(torch.float32, ())
        return tensors

    @override
    def pack(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of a layer by suffix. Raises ExportError for codes of another kind."""
        if not isinstance(quantized, LatticeTensor) or quantized.num_bits != self.spec.num_bits:
            raise ExportError(f"{module_name} holds no {self.spec.num_bits}-bit lattice codes, as its recipe says")
        tensors = {CODES: quantized.codes.flatten()}
        if quantized.residual_codes is not None:
            tensors[RESIDUAL] = quantized.residual_codes.flatten()
        tensors[NEGATIVE_OUTPUTS] = _pack_signs(quantized.incoherence.negative_outputs)
        tensors[NEGATIVE_INPUTS] = _pack_signs(quantized.incoherence.negative_inputs)
        tensors[SCALE] = quantized.scale
        return tensors

    @override
    def rebuild(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> LatticeTensor:
        """Return what `pack` was given."""
        blocks = blocks_of(shape[1])
        residual = tensors.get(RESIDUAL)
        return LatticeTensor(
            shape=shape,
            spec=self.spec,
            codes=tensors[CODES].reshape(shape[0], blocks),
            residual_codes=None if residual is None else residual.reshape(shape[0], blocks),
            incoherence=Incoherence(
                negative_outputs=_unpack_signs(tensors[NEGATIVE_OUTPUTS], shape[0]),
                negative_inputs=_unpack_signs(tensors[NEGATIVE_INPUTS], blocks * WIDTH),
            ),
            scale=tensors[SCALE],
            num_bits=self.spec.num_bits,
        )


def blocks_of(in_features: int) -> int:
    """Return the blocks of eight in one row, the last one filled up."""
    return -(-in_features // WIDTH)


def _pack_signs(negative: Tensor) -> Tensor:
    return pack_bits(negative.to(torch.uint8)[None], 1)[0]


def _unpack_signs(packed: Tensor, count: int) -> Tensor:
    return unpack_bits(packed[None], 1, count)[0].to(torch.bool)
