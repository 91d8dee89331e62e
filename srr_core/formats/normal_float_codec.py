"""NormalFloat codes in our own layout: a flat byte stream of codes, and the magnitudes as they are."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.errors import ExportError
from srr_core.formats.codecs import Codec, Declared
from srr_core.formats.packing import pack_bits, unpack_bits
from srr_core.quantizers.normal_float import SUPERBLOCK, Magnitudes, NormalFloatTensor
from srr_core.recipe import NormalFloatSpec
from srr_core.types import QuantizedTensor

_MAGNITUDE = "weight_magnitude"
_DOUBLE = {"magnitude_codes": torch.uint8, "magnitude_lowest": torch.float16, "magnitude_step": torch.float16}


class NormalFloatCodec(Codec):
    """Codes of the flattened rows, one magnitude per block of the flattened weight."""

    def __init__(self, spec: NormalFloatSpec) -> None:
        self.spec = spec

    def declared(self, shape: tuple[int, int]) -> dict[str, Declared]:
        """Return every tensor of a layer of this (out, in) shape, by suffix."""
        row_bytes = -(-shape[1] * self.spec.num_bits // 8)
        blocks = -(-shape[0] * shape[1] // self.spec.block_size)
        tensors = {"weight": Declared(torch.uint8, (shape[0] * row_bytes,))}
        if not self.spec.double_quantization:
            return {**tensors, _MAGNITUDE: Declared(torch.float32, (blocks,))}
        sizes: dict[str, tuple[int, ...]] = {
            "magnitude_codes": (blocks,),
            "magnitude_lowest": (-(-blocks // SUPERBLOCK),),
            "magnitude_step": (-(-blocks // SUPERBLOCK),),
        }
        return {**tensors, **{f"weight_{name}": Declared(_DOUBLE[name], size) for name, size in sizes.items()}}

    def pack(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of a layer by suffix. Raises ExportError for codes of another kind."""
        if not isinstance(quantized, NormalFloatTensor):
            raise ExportError(f"{module_name} holds {quantized.layout} codes, its recipe says NormalFloat")
        found = (quantized.num_bits, quantized.block_size, isinstance(quantized.magnitudes, Magnitudes))
        wanted = (self.spec.num_bits, self.spec.block_size, self.spec.double_quantization)
        if found != wanted:
            raise ExportError(
                f"{module_name} holds NormalFloat codes of (bits, block, double quantization) {found}, its recipe "
                f"says {wanted}"
            )
        named = dict(quantized.tensors())
        codes = pack_bits(named.pop("codes"), self.spec.num_bits)
        return {"weight": codes.flatten(), **{f"weight_{name}": tensor for name, tensor in named.items()}}

    def rows_multiple(self, shape: tuple[int, int]) -> int:
        """Return the fewest rows that are whole blocks."""
        return self.spec.block_size // math.gcd(shape[1], self.spec.block_size)

    def decode_rows(
        self, shape: tuple[int, int], tensors: Mapping[str, Tensor], start: int, stop: int
    ) -> Float[Tensor, "rows in"]:
        """Return rows `start` to `stop` of the weight in float32."""
        codes = tensors["weight"].reshape(shape[0], -1)[start:stop]
        first, last = start * shape[1] // self.spec.block_size, -(-stop * shape[1] // self.spec.block_size)
        magnitudes = self._magnitudes(tensors)
        values = magnitudes.values(first, last) if isinstance(magnitudes, Magnitudes) else magnitudes[first:last]
        return self._tensor((stop - start, shape[1]), codes, values).dequantize()

    def rebuild(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> NormalFloatTensor:
        """Return what `pack` was given."""
        return self._tensor(shape, tensors["weight"].reshape(shape[0], -1), self._magnitudes(tensors))

    def _magnitudes(self, tensors: Mapping[str, Tensor]) -> Magnitudes | Tensor:
        if not self.spec.double_quantization:
            return tensors[_MAGNITUDE]
        return Magnitudes(*(tensors[f"weight_{name}"] for name in _DOUBLE))

    def _tensor(self, shape: tuple[int, int], rows: Tensor, magnitudes: Magnitudes | Tensor) -> NormalFloatTensor:
        return NormalFloatTensor(
            shape=shape,
            spec=self.spec,
            codes=unpack_bits(rows, self.spec.num_bits, shape[1]).view(torch.int8),
            magnitudes=magnitudes,
            num_bits=self.spec.num_bits,
            block_size=self.spec.block_size,
        )
