"""The start of learned rounding: codes on the grid, and the values they were rounded from.

What is learned is learned block by block, in `srr_core.learning`; a weight alone has no block to be judged by, so here
it gets the start, by rounding to nearest or with the error feedback of GPTQ.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from typing_extensions import override

from srr_core.linalg.precision import exact_matmul
from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.gptq import GRIDS, GPTQQuantizer
from srr_core.quantizers.grid import round_to_nearest
from srr_core.recipe import GPTQSpec, LearnedSpec
from srr_core.types import IntegerTensor, Statistics


@dataclass(frozen=True)
class LearnableTensor(IntegerTensor):
    """Integer codes with what they were rounded from, so that a nudge before the rounding can be learned."""

    target: Float32[Tensor, "out in"]
    """Rounded to the nearest code of its group, it gives `codes`."""

    def plain(self) -> IntegerTensor:
        """Return the codes without their target."""
        return IntegerTensor(**{field.name: getattr(self, field.name) for field in fields(IntegerTensor)})


class LearnedQuantizer(Quantizer[LearnedSpec]):
    """Rounds a weight as learning starts from it."""

    needs_statistics = True

    def __init__(self, spec: LearnedSpec) -> None:
        super().__init__(spec)
        self._grid = GRIDS.build(spec.grid)
        self._feedback = GPTQQuantizer(GPTQSpec(grid=spec.grid)) if spec.start == "gptq" else None

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> IntegerTensor:
        assert statistics is not None  # noqa: S101  # the base has checked it, which mypy cannot see
        return self._start(weight, statistics)[0]

    def learnable(self, weight: Float[Tensor, "out in"], statistics: Statistics) -> LearnableTensor:
        """Return what `quantize` returns, with what it was rounded from. Raises as it does."""
        single = weight.detach().to(torch.float32)
        self._check(single, statistics)
        with exact_matmul():
            rounded, target = self._start(single, statistics)
        parts = {field.name: getattr(rounded, field.name) for field in fields(IntegerTensor)}
        return LearnableTensor(**parts, target=target)

    def _start(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics
    ) -> tuple[IntegerTensor, Float32[Tensor, "out in"]]:
        if self._feedback is None:
            return round_to_nearest(weight, self._grid, self.spec), weight.clone()
        rounded, target = self._feedback.quantize_with_targets(weight, statistics)
        return replace(rounded, spec=self.spec), target
