"""A packed weight whose scales learn: one factor a group, the codes as they are.

The product and its gradients are written out by hand, so that the dense weight lives for one product only; what is
kept between the passes is the input. Scales are rounded to the dtype of the format in every pass, and the gradient
passes this rounding as if it were not there: what is learned on is what will be stored.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from srr_core.types import IntegerTensor

PerGroup = Float[Tensor, "out groups"]


class ScaledLinear(nn.Module):
    """y = x·Wᵀ + b with W = (codes - zero points)·scales·factors; only the factors learn.

    Memory: a byte per weight, four for a scale and four for its factor; the dense weight for a moment.

    Args:
        quantized: The weight.
        scale_dtype: Of the scales in the file.
        bias: Of the layer; frozen.
    """

    path = None
    """Of a packed layer; an adapter that finds none adds L·R by itself."""

    def __init__(self, quantized: IntegerTensor, *, scale_dtype: torch.dtype, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = quantized.shape
        self._quantized = quantized
        self._scale_dtype = scale_dtype
        self._bias = bias
        self.factor = nn.Parameter(torch.ones_like(quantized.scale, dtype=torch.float32))

    @property
    def weight(self) -> Tensor:
        """The scales: who asks a layer for its weight wants to know device and dtype."""
        return self._quantized.scale

    @override
    def forward(self, input: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """Return x·Wᵀ + b in the dtype of x."""
        y: Tensor = _ScaledProduct.apply(input.reshape(-1, self.in_features), self.factor, self)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        y = y.reshape(*input.shape[:-1], self.out_features)
        return y if self._bias is None else y + self._bias.to(y.dtype)

    @torch.no_grad()
    def scale(self) -> PerGroup:
        """Return the scales as they would be stored, float32."""
        start = self._quantized.scale
        moved = (start * self.factor).to(self._scale_dtype).to(torch.float32)
        # A scale that leaves its dtype keeps the value it had; at the rates there are it never comes so far.
        return torch.where(moved.isfinite() & ((moved != 0) | (start == 0)), moved, start)

    def tensor(self) -> IntegerTensor:
        """Return the weight with its scales as they would be stored."""
        own = self._quantized
        return IntegerTensor(
            own.shape, own.spec, own.codes, self.scale(), own.zero_point, own.num_bits, own.group_size, notes=own.notes
        )

    def steps(self) -> Float[Tensor, "out in"]:
        """Return codes minus zero points, the weight in units of its scales."""
        own = self._quantized
        units = torch.ones_like(own.scale)
        return IntegerTensor(
            own.shape, own.spec, own.codes, units, own.zero_point, own.num_bits, own.group_size
        ).dequantize()

    def by_group(self, values: Float[Tensor, "out in"]) -> PerGroup:
        """Return the sum of values over every group."""
        size, groups = self._quantized.group_size, self._quantized.scale.shape[1]
        missing = groups * size - values.shape[1]
        return nn.functional.pad(values, (0, missing)).reshape(len(values), groups, size).sum(-1)

    @property
    def first_scale(self) -> PerGroup:
        """The scales before anything was learned."""
        return self._quantized.scale


class _ScaledProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, _factor: Tensor, layer: ScaledLinear) -> Tensor:
        """Return x·Wᵀ."""
        ctx.layer = layer
        ctx.save_for_backward(x)
        return x @ layer.tensor().dequantize().to(x.dtype).mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients by x and by the factors."""
        (gradient,) = gradients
        layer: ScaledLinear = ctx.layer
        (x,) = ctx.saved_tensors
        by_input = by_factor = None
        if ctx.needs_input_grad[0]:
            by_input = gradient @ layer.tensor().dequantize().to(gradient.dtype)
        if ctx.needs_input_grad[1]:
            by_weight = gradient.to(torch.float32).mT @ x.to(torch.float32)
            by_factor = layer.by_group(by_weight.mul_(layer.steps())) * layer.first_scale
        return by_input, by_factor, None
