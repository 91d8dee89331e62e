"""How each kind of codes is packed into tensors: one codec per layout and quantizer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.errors import CheckpointError
from srr_core.formats.checked import ReadTensor, expect, require_finite
from srr_core.formats.grid import checked_integer, from_signed, scale_dtype, to_signed
from srr_core.formats.packing import pack_bits, pack_int32, packed_columns, unpack_bits, unpack_int32
from srr_core.recipe import Spec, UniformGrid
from srr_core.types import IntegerTensor, QuantizedTensor

SHAPE_SUFFIX = "weight_shape"


@dataclass(frozen=True)
class Declared:
    """Dtype and shape a layout gives to one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Codec(ABC):
    """Packs one kind of codes into tensors named by a suffix. Pure; holds only its specification."""

    @abstractmethod
    def declared(self, shape: tuple[int, int]) -> dict[str, Declared]:
        """Return every tensor of a layer of this (out, in) shape, by suffix, `weight_shape` left out."""

    @abstractmethod
    def pack(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of a layer by suffix, `weight_shape` left out.

        Raises:
            ExportError: codes this codec cannot hold exactly.
        """

    @abstractmethod
    def rebuild(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> QuantizedTensor:
        """Return what `pack` was given, from tensors that are as declared."""

    def rows_multiple(self, shape: tuple[int, int]) -> int:
        """Return the smallest number of rows that can be decoded without the others; all, if it is not known."""
        return shape[0]

    def decode_rows(
        self, shape: tuple[int, int], tensors: Mapping[str, Tensor], start: int, stop: int
    ) -> Float[Tensor, "rows in"]:
        """Return rows `start` to `stop` of the weight in float32; `start` is a multiple of `rows_multiple`."""
        return self.rebuild(shape, tensors).dequantize()[start:stop]

    def unpack(self, module_name: str, read: ReadTensor) -> QuantizedTensor:
        """Return one layer of a checkpoint.

        Raises:
            CheckpointError: a tensor is missing, not as declared or not finite; the message names it.
        """
        shape = read_shape(module_name, read)
        tensors = {}
        for suffix, declared in self.declared(shape).items():
            name = f"{module_name}.{suffix}"
            tensors[suffix] = expect(read(name), name, dtype=declared.dtype, shape=declared.shape)
            require_finite(tensors[suffix], name)
        return self.rebuild(shape, tensors)


def read_shape(module_name: str, read: ReadTensor) -> tuple[int, int]:
    """Return (out, in) from the `weight_shape` tensor of a layer.

    Raises:
        CheckpointError: it is not two positive int64 numbers.
    """
    name = f"{module_name}.{SHAPE_SUFFIX}"
    values = expect(read(name), name, dtype=torch.int64, shape=(2,)).tolist()
    if min(values) < 1:
        raise CheckpointError(f"tensor {name} holds {values}, but a weight has at least one row and one column")
    return values[0], values[1]


class GridCodec(Codec):
    """What the two packings of a uniform grid share: the scale, and the value rebuilt."""

    def __init__(self, spec: Spec, grid: UniformGrid) -> None:
        self.spec = spec
        self.grid = grid

    def _scale(self, shape: tuple[int, int]) -> Declared:
        return Declared(scale_dtype(self.grid), (shape[0], self.grid.num_groups(shape[1])))

    def _integer(
        self, shape: tuple[int, int], codes: Tensor, scale: Tensor, zero_point: Tensor | None
    ) -> IntegerTensor:
        return IntegerTensor(
            shape=shape,
            spec=self.spec,
            codes=from_signed(codes, self.grid),
            scale=scale.to(torch.float32),
            zero_point=None if zero_point is None else from_signed(zero_point, self.grid),
            num_bits=self.grid.num_bits,
            group_size=self.grid.group_size,
        )


class WordCodec(GridCodec):
    """compressed-tensors' pack-quantized: int32 words along the inputs, zero points along the outputs."""

    def declared(self, shape: tuple[int, int]) -> dict[str, Declared]:
        """Return every tensor of a layer of this (out, in) shape, by suffix."""
        out_features, in_features = shape
        words = packed_columns(in_features, self.grid.num_bits)
        tensors = {"weight_packed": Declared(torch.int32, (out_features, words)), "weight_scale": self._scale(shape)}
        if not self.grid.is_symmetric:
            words = packed_columns(out_features, self.grid.num_bits)
            tensors["weight_zero_point"] = Declared(torch.int32, (words, self.grid.num_groups(in_features)))
        return tensors

    def pack(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of a layer by suffix. Raises ExportError for codes of another grid."""
        integer = checked_integer(module_name, quantized, self.grid)
        tensors = {
            "weight_packed": pack_int32(to_signed(integer.codes, self.grid), self.grid.num_bits),
            "weight_scale": integer.scale.to(scale_dtype(self.grid)),
        }
        if integer.zero_point is not None:
            columns = to_signed(integer.zero_point, self.grid).t()
            tensors["weight_zero_point"] = pack_int32(columns, self.grid.num_bits).t()
        return tensors

    def rebuild(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> IntegerTensor:
        """Return what `pack` was given."""
        codes = unpack_int32(tensors["weight_packed"], self.grid.num_bits, shape[1])
        zero_point = None
        if not self.grid.is_symmetric:
            zero_point = unpack_int32(tensors["weight_zero_point"].t(), self.grid.num_bits, shape[0]).t().contiguous()
        return self._integer(shape, codes, tensors["weight_scale"], zero_point)


class ByteCodec(GridCodec):
    """Our own layout of a uniform grid: a flat byte stream, rows starting at a byte; a short last group is allowed.

    `weight` is one-dimensional, so it never has the shape of a weight matrix: a loader that does not
    know the layout fails with a size mismatch instead of starting from random numbers.
    """

    def declared(self, shape: tuple[int, int]) -> dict[str, Declared]:
        """Return every tensor of a layer of this (out, in) shape, by suffix."""
        out_features, in_features = shape
        tensors = {
            "weight": Declared(torch.uint8, (out_features * self._row_bytes(in_features),)),
            "weight_scale": self._scale(shape),
        }
        if not self.grid.is_symmetric:
            row_bytes = self._row_bytes(self.grid.num_groups(in_features))
            tensors["weight_zero_point"] = Declared(torch.uint8, (out_features, row_bytes))
        return tensors

    def pack(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of a layer by suffix. Raises ExportError for codes of another grid."""
        integer = checked_integer(module_name, quantized, self.grid)
        tensors = {
            "weight": self._pack_rows(integer.codes).flatten(),
            "weight_scale": integer.scale.to(scale_dtype(self.grid)),
        }
        if integer.zero_point is not None:
            tensors["weight_zero_point"] = self._pack_rows(integer.zero_point)
        return tensors

    def rebuild(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> IntegerTensor:
        """Return what `pack` was given."""
        codes = self._unpack_rows(tensors["weight"].reshape(shape[0], -1), shape[1])
        zero_point = None
        if not self.grid.is_symmetric:
            zero_point = self._unpack_rows(tensors["weight_zero_point"], self.grid.num_groups(shape[1]))
        return self._integer(shape, codes, tensors["weight_scale"], zero_point)

    def rows_multiple(self, shape: tuple[int, int]) -> int:
        """Return 1: rows start at a byte."""
        return 1

    def decode_rows(
        self, shape: tuple[int, int], tensors: Mapping[str, Tensor], start: int, stop: int
    ) -> Float[Tensor, "rows in"]:
        """Return rows `start` to `stop` of the weight in float32."""
        rows = {name: tensor[start:stop] for name, tensor in tensors.items() if name != "weight"}
        rows["weight"] = tensors["weight"].reshape(shape[0], -1)[start:stop]
        return self.rebuild((stop - start, shape[1]), rows).dequantize()

    def _row_bytes(self, columns: int) -> int:
        return -(-columns * self.grid.num_bits // 8)

    def _pack_rows(self, codes: Tensor) -> Tensor:
        offset = 1 << (self.grid.num_bits - 1)
        return pack_bits(to_signed(codes, self.grid).to(torch.int16) + offset, self.grid.num_bits)

    def _unpack_rows(self, packed: Tensor, columns: int) -> Tensor:
        values = unpack_bits(packed, self.grid.num_bits, columns)
        return (values - (1 << (self.grid.num_bits - 1))).view(torch.int8)
