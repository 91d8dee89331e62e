"""Scales that learn: the product, its gradients against autograd's, and what would be stored."""

import pytest
import torch
from torch import Tensor

from srr_core.learning.scales import ScaledLinear
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import IntegerSpec
from srr_core.types import IntegerTensor


def quantized(*, symmetric: bool, in_features: int = 40) -> IntegerTensor:
    weight = torch.randn(6, in_features, generator=torch.Generator().manual_seed(1))
    found = QUANTIZERS.build(IntegerSpec(num_bits=3, group_size=16, symmetric=symmetric)).quantize(weight)
    assert isinstance(found, IntegerTensor)
    return found


def dense(layer: ScaledLinear, factor: Tensor) -> Tensor:
    """Return the weight as autograd can follow it, unrounded."""
    own = layer.tensor()
    scale = layer.first_scale * factor
    return layer.steps() * scale[..., None].expand(-1, -1, own.group_size).flatten(1)[:, : own.shape[1]]


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_are_those_of_autograd_through_the_dense_weight(symmetric: bool) -> None:
    start = quantized(symmetric=symmetric)  # 40 inputs in groups of 16: the last one is short
    layer = ScaledLinear(start, scale_dtype=torch.float32, bias=None)
    x = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(2), requires_grad=True)
    other = x.detach().clone().requires_grad_(True)
    factor = layer.factor.detach().clone().requires_grad_(True)

    layer(x).square().sum().backward()
    (other @ dense(layer, factor).mT).square().sum().backward()

    assert x.grad is not None
    assert layer.factor.grad is not None
    assert torch.allclose(x.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(layer.factor.grad, factor.grad, rtol=1e-4, atol=1e-3)


def test_nothing_learned_is_the_start_bit_for_bit() -> None:
    start = quantized(symmetric=False)
    layer = ScaledLinear(start, scale_dtype=torch.float16, bias=torch.ones(6))
    x = torch.randn(3, 40)

    assert torch.equal(layer.scale(), start.scale)
    assert torch.equal(layer(x), x @ start.dequantize().mT + 1)


def test_scales_stay_values_of_their_dtype_and_codes_stay() -> None:
    start = quantized(symmetric=False)
    layer = ScaledLinear(start, scale_dtype=torch.float16, bias=None)
    layer.factor.data.mul_(1.2345)

    learned = layer.tensor()

    assert torch.equal(learned.scale, learned.scale.half().float())
    assert torch.allclose(learned.scale, start.scale * 1.2345, rtol=1e-3)
    assert torch.equal(learned.codes, start.codes)


def test_a_scale_that_would_leave_its_dtype_keeps_its_value() -> None:
    start = quantized(symmetric=False)
    layer = ScaledLinear(start, scale_dtype=torch.float16, bias=None)
    layer.factor.data[0] = 1e12
    layer.factor.data[1] = 0.0

    assert torch.equal(layer.scale()[:2], start.scale[:2])
