"""The values that pass between the rooms of the core."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

from srr_core.recipe import Spec
from srr_core.recipe.stages import Stage


@dataclass(frozen=True)
class QuantizedTensor(ABC):
    """A weight as codes and metadata. `dequantize` is the only way back to numbers."""

    layout: ClassVar[str]
    """Name of the packing this kind of codes is written in."""

    shape: tuple[int, int]
    """(out, in) of the weight, padding left out."""
    spec: Spec
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Fallbacks the quantizer took, one sentence each, for the report."""

    @abstractmethod
    def dequantize(self) -> Float[Tensor, "out in"]:
        """Return the weight these codes stand for, float32."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return every tensor needed to rebuild this value, by short name, codes unpacked."""

    @abstractmethod
    def code_bits(self) -> Mapping[str, int]:
        """Return the bits of one code in each of `tensors` that holds codes; the others say what codes mean."""


@dataclass(frozen=True)
class IntegerTensor(QuantizedTensor):
    """Integer codes with one step per group along the input: value = (code - zero_point) * scale."""

    layout: ClassVar[str] = "integer"

    codes: Int[Tensor, "out in"]
    """int8; signed when `zero_point` is None, else unsigned in 0 .. 2**num_bits - 1 (stored int16 if 8 bits)."""
    scale: Float[Tensor, "out groups"]
    """float32 values that the stored dtype holds exactly: powers of two for MXINT, fp16 for integers."""
    zero_point: Int[Tensor, "out groups"] | None
    num_bits: int
    group_size: int

    def dequantize(self) -> Float[Tensor, "out in"]:
        """Return the weight these codes stand for, float32."""
        values = self.codes.to(torch.float32)
        if self.zero_point is not None:
            values -= self._per_input(self.zero_point.to(torch.float32))
        return values.mul_(self._per_input(self.scale))

    def _per_input(self, parameters: Float[Tensor, "out groups"]) -> Float[Tensor, "out in"]:
        # Expanding copies runs of numbers; indexing with a group number per input is ten times slower.
        return parameters[..., None].expand(-1, -1, self.group_size).flatten(1)[:, : self.shape[1]]

    def tensors(self) -> Mapping[str, Tensor]:
        """Return every tensor needed to rebuild this value, by short name, codes unpacked."""
        named = {"codes": self.codes, "scale": self.scale}
        return named if self.zero_point is None else {**named, "zero_point": self.zero_point}

    def code_bits(self) -> Mapping[str, int]:
        """Return the bits of one code."""
        return {"codes": self.num_bits}


@dataclass(frozen=True)
class Statistics:
    """What calibration learned about the inputs of one group of layers."""

    autocorrelation: Float64[Tensor, "in in"]
    """Mean over tokens of xᵀx; symmetric, positive semi-definite, possibly singular."""
    largest_mean_magnitude: Float64[Tensor, " in"]
    """Largest, over calibration sequences, of the mean over tokens of |x|."""
    num_tokens: int


@dataclass(frozen=True)
class LayerErrors:
    """How far one layer is from its source, with L and R rounded as they are stored."""

    output: float
    """‖x(W - Q - LR)‖ / ‖xW‖ over the calibration tokens; 0 where the layer's output is 0."""
    quantized_output: float
    """The same for Q alone."""
    scaled: float
    """‖S(W - Q - LR)‖ / ‖SW‖ in the recipe's own scaling."""
    weight: float
    """‖W - Q - LR‖ / ‖W‖."""
    correction: float
    """‖LR‖ / ‖W - Q‖."""


@dataclass(frozen=True)
class Spectra:
    """The leading singular values of a layer, each as a share of ‖W·Sᵀ‖; none where they were not needed."""

    weight: tuple[float, ...]
    """Of W·Sᵀ."""
    error: tuple[float, ...]
    """Of (W - Q)·Sᵀ, which L·R is taken from."""


@dataclass(frozen=True)
class Decomposition:
    """W ≈ Q + L·R for one layer. L and R are None where the recipe's rank is 0."""

    quantized: QuantizedTensor
    left: Shaped[Tensor, "out rank"] | None
    right: Shaped[Tensor, "rank in"] | None
    preserved_rank: int
    iterations: int
    errors: LayerErrors
    notes: tuple[str, ...] = ()
    preserved_overlap: float | None = None
    """How much of the preserved directions the first `preserved_rank` columns of L span; None where k is 0."""
    output_length: float | None = None
    """‖xW‖ over the calibration inputs, which every other method for the layer measures its errors by."""
    spectra: Spectra | None = None
    """None where no direction was looked for."""


@dataclass(frozen=True)
class Progress:
    """A step of a run: `completed` of `total` units of one stage are done."""

    stage: Stage
    """One of the core's own, from plan to evaluate. The units of calibrate are blocks, those of compress layers; these
    two alternate, block by block."""
    completed: int
    total: int
    block: int | None = None
    layer: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """For a finished layer: output_error, preserved_rank, seconds."""


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]
