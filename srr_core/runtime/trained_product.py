"""x·(Q + L·R)ᵀ with gradients for x, L and R, keeping for them no more than x as it came and x·Rᵀ.

PEFT widens what the factors are given to float32, and autograd keeps that copy of every layer: half of all that a block
of a bf16 Llama keeps. Here the input itself is kept, which layers that read the same one share, and is widened again on
the way back. Every sum is taken in the type PEFT takes it in; only gradients that meet at one input may be added in
another order.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.runtime.linear import PackedLinear


def corrected_product(
    layer: PackedLinear,
    x: Float[Tensor, "... in"],
    right: Float[Tensor, "rank in"],
    left: Float[Tensor, "out rank"],
    scaling: float,
) -> Float[Tensor, "... out"]:
    """Return x·Qᵀ + b + scaling·(x·Rᵀ)·Lᵀ in the dtype of x, recorded for autograd."""
    layer.prepare(x.dtype)
    y: Tensor = _CorrectedProduct.apply(x, right, left, layer, scaling)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return y


class _CorrectedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, right: Tensor, left: Tensor, layer: PackedLinear, scaling: float) -> Tensor:
        flat = x.reshape(-1, layer.in_features)
        shared = flat.to(right.dtype) @ right.t()
        y = layer.product(flat)
        if layer.bias is not None:
            y = y + layer.bias.to(y.dtype)
        result = shared @ left.t()
        if scaling != 1:
            result.mul_(scaling)
        result = result.add_(y).to(y.dtype)
        ctx.layer, ctx.scaling = layer, scaling
        ctx.save_for_backward(x, right, left, shared)
        return result.reshape(*x.shape[:-1], layer.out_features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, right, left, shared = ctx.saved_tensors
        needs_x, needs_right, needs_left = ctx.needs_input_grad[:3]
        gradient = gradients[0].reshape(-1, left.shape[0]).contiguous()
        wide = gradient.to(left.dtype)
        if ctx.scaling != 1:
            wide = wide * ctx.scaling
        of_left = wide.t() @ shared if needs_left else None
        of_shared = wide @ left
        del wide  # as large as the output in float32
        of_right = of_shared.t() @ x.reshape(-1, right.shape[1]).to(right.dtype) if needs_right else None
        of_x = None
        if needs_x:
            of_x = ctx.layer.product_transposed(gradient).add_((of_shared @ right).to(x.dtype)).reshape(x.shape)
        return of_x, of_right, of_left, None, None
