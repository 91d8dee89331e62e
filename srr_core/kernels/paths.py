"""The ways a packed weight is multiplied: each keeps the weight in its own packed form, none ever dense as a whole.

A path turns codes into buffers once (`prepare`), multiplies with them, and gives the codes back exactly
(`restore`), so that a model can be saved or moved to another path. Scales are kept as raw bit patterns in
integer buffers: casting a model to another dtype must not round them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.formats.codecs import Codec, GridCodec
from srr_core.recipe import UniformGrid
from srr_core.types import IntegerTensor, QuantizedTensor

Buffers = Mapping[str, Tensor]

CPU_TILE_WEIGHTS = 1 << 21
"""Decoded weights of one tile, 8 MB in float32: the fastest of 2**15 .. 2**23 measured at 4096 x 11008."""
GPU_TILE_WEIGHTS = 1 << 26
MANY_ROWS = 32
"""Rows from which on a product takes longer than decoding its weight."""
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As torch names them on x86 and on ARM."""

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Case:
    """What decides which path serves a layer."""

    codec: Codec
    out_features: int
    in_features: int
    dtype: torch.dtype
    device: str
    widen: bool = False
    """Whether codes of 2 and 3 bits may be widened to 4, for speed at the cost of memory."""
    native: bool = False
    """Whether the C kernels may be compiled and used."""

    @property
    def grid(self) -> UniformGrid | None:
        """The uniform grid of the codes, or None."""
        return self.codec.grid if isinstance(self.codec, GridCodec) else None


class MatmulPath(ABC):
    """One way to hold and multiply a packed weight."""

    name: ClassVar[str]
    serves_text: ClassVar[str]
    """For people: bits, group, dtype, device and batch this path serves."""
    fuses_low_rank: ClassVar[bool] = False
    """Whether `multiply_corrected` takes one pass; where it does not, PEFT adds L·R."""

    def __init__(self, case: Case) -> None:
        self.codec = case.codec
        self.shape = (case.out_features, case.in_features)

    @classmethod
    @abstractmethod
    def serves(cls, case: Case) -> bool:
        """Whether this path can hold and multiply this layer exactly."""

    @abstractmethod
    def prepare(self, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the buffers of a weight, on the device of its codes."""

    @abstractmethod
    def restore(self, buffers: Buffers) -> QuantizedTensor:
        """Return the weight the buffers were prepared from."""

    @abstractmethod
    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""

    def multiply_corrected(
        self,
        buffers: Buffers,
        x: Float[Tensor, "rows in"],
        shared: Float[Tensor, "rows rank"],
        left: Float[Tensor, "out rank"],
    ) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ + shared·leftᵀ in the dtype of x; `shared` and `left` are of one dtype."""
        return (self.multiply(buffers, x) + shared @ left.t()).to(x.dtype)

    @abstractmethod
    def multiply_transposed(self, buffers: Buffers, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·W in the dtype of y: the gradient with respect to the input."""


class GridPath(MatmulPath):
    """A path for codes on a uniform grid."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if not isinstance(case.codec, GridCodec):
            raise ValueError(f"the {self.name} path needs codes on a uniform grid")
        self.grid = case.codec.grid
        self.spec = case.codec.spec

    def rebuilt(self, codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> IntegerTensor:
        """Return a weight on this grid from codes and zero points in their natural range."""
        return IntegerTensor(
            shape=self.shape,
            spec=self.spec,
            codes=codes,
            scale=scale.to(torch.float32),
            zero_point=zero_point,
            num_bits=self.grid.num_bits,
            group_size=self.grid.group_size,
        )


def as_integer(quantized: QuantizedTensor) -> IntegerTensor:
    """Return a weight known to be on a uniform grid. Raises TypeError for another."""
    if not isinstance(quantized, IntegerTensor):
        raise TypeError(f"{quantized.layout} codes have no uniform grid")
    return quantized


def as_bits(values: Tensor) -> Tensor:
    """Return the bit pattern of floating-point values as integers of the same size."""
    return values.contiguous().view(_BITS[values.element_size()])


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype a decoded tile is multiplied in: at least float32 on the CPU, as given elsewhere.

    On a CPU without instructions for it a bf16 product takes 2.8 times as long as a float32 one.
    """
    return torch.promote_types(x.dtype, torch.float32) if x.device.type == "cpu" else x.dtype


def product_dtype(x: Float[Tensor, "rows _"]) -> torch.dtype:
    """Return the dtype of a product whose weight has nothing to lose: as `compute_dtype`, but bf16 where it is fast.

    A CPU that has instructions for bf16 takes a quarter of the time of float32; sums are float32 in both. For a few
    rows decoding takes longest, and float32 is as fast.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.shape[0] >= MANY_ROWS and multiplies_bfloat16():
        return torch.bfloat16
    return compute_dtype(x)


@lru_cache(maxsize=1)
def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bf16."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in _BFLOAT16_INSTRUCTIONS)


def add_product(total: Float[Tensor, "rows in"], y: Float[Tensor, "rows out"], weight: Float[Tensor, "out in"]) -> None:
    """Add y·W to a sum over tiles, which may be wider than they are, so that the sum is not rounded each time."""
    if total.dtype == y.dtype:
        total.addmm_(y, weight)
    else:
        total += y @ weight


def tile_rows(in_features: int, device: torch.device) -> int:
    """Return how many rows of a weight are decoded at a time."""
    return max(1, (CPU_TILE_WEIGHTS if device.type == "cpu" else GPU_TILE_WEIGHTS) // in_features)
