"""What every quantizer promises: a weight in, codes and metadata out, nothing modified."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from srr_core.errors import NonFiniteWeightError
from srr_core.linalg.precision import exact_matmul
from srr_core.recipe import Spec
from srr_core.types import QuantizedTensor, Statistics

SpecT = TypeVar("SpecT", bound=Spec)


class Quantizer(ABC, Generic[SpecT]):
    """Rounds weights as one specification says. Holds no state that changes a result."""

    needs_statistics: ClassVar[bool] = False
    """Whether `quantize` needs what calibration learned about the inputs."""

    def __init__(self, spec: SpecT) -> None:
        self.spec = spec

    def quantize(
        self, weight: Float[Tensor, "out in"], statistics: Statistics | None = None, *, seed: int = 0
    ) -> QuantizedTensor:
        """Return the codes of a weight.

        Args:
            weight: float32 or float64, on any device, groups along `in`; rounded to float32 first. Not modified.
            statistics: Of the inputs of this weight. Ignored by a quantizer that does not need them.
            seed: Of the random signs of QuIP#; the others draw nothing. Same seed, same bits.

        Raises:
            NonFiniteWeightError: the weight holds NaN, infinity or a value beyond float32.
            ValueError: the weight is empty, or the statistics are missing or of another width.
        """
        single = weight.detach().to(torch.float32)
        _check(single, statistics, self.needs_statistics)
        with exact_matmul():
            return self._quantize(single, statistics if self.needs_statistics else None, seed=seed)

    @abstractmethod
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> QuantizedTensor:
        """Return the codes of a finite weight, which must not be modified."""


def _check(weight: Tensor, statistics: Statistics | None, needs_statistics: bool) -> None:
    if weight.numel() == 0:
        raise ValueError(f"the weight of shape {tuple(weight.shape)} is empty; there is nothing to quantize")
    # The sum of finite values can overflow, so a finite sum proves finiteness and the slow test decides the rest.
    if not bool(torch.isfinite(weight.sum())) and not bool(torch.isfinite(weight).all()):
        bad = int((~torch.isfinite(weight)).sum())
        raise NonFiniteWeightError(
            f"{bad} of {weight.numel()} weights are NaN or infinite in float32; repair the source checkpoint"
        )
    if not needs_statistics:
        return
    if statistics is None:
        raise ValueError("this quantizer needs the statistics of the layer's inputs; calibrate first")
    width = statistics.autocorrelation.shape[0]
    if width != weight.shape[1]:
        raise ValueError(f"the statistics are of {width} inputs, the weight has {weight.shape[1]}")
