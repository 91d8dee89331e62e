"""What every law of the quantizers is tried on: each row of the table with its defaults, and chosen variants."""

import pytest
import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import GPTQSpec, IntegerSpec, LearnedSpec, MXIntSpec, NormalFloatSpec, QuantizerBase, QuIPSharpSpec
from srr_core.types import QuantizedTensor, Statistics

CASES: list[QuantizerBase] = [
    *(spec() for spec in QUANTIZERS),
    MXIntSpec(num_bits=3),
    MXIntSpec(num_bits=2, block_size=16, exponent="search", exponent_window=3),
    MXIntSpec(num_bits=8),
    IntegerSpec(num_bits=3, group_size=32),
    IntegerSpec(num_bits=4, group_size=16, symmetric=True, search="mse"),
    IntegerSpec(num_bits=8, group_size=64),
    NormalFloatSpec(num_bits=4, block_size=32),
    NormalFloatSpec(num_bits=2, double_quantization=False),
    GPTQSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    GPTQSpec(grid=MXIntSpec(num_bits=4), act_order=False),
    LearnedSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    LearnedSpec(grid=MXIntSpec(num_bits=4)),
    QuIPSharpSpec(num_bits=2, coordinate_passes=1),
    QuIPSharpSpec(num_bits=3, coordinate_passes=1),
    QuIPSharpSpec(num_bits=4, coordinate_passes=0),
]

every_quantizer = pytest.mark.parametrize("spec", CASES, ids=repr)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics(in_features: int) -> Statistics:
    mixing = gaussian(in_features, in_features, seed=1).to(torch.float64)
    inputs = gaussian(4 * in_features, in_features, seed=2).to(torch.float64) @ mixing
    return Statistics(inputs.T @ inputs / len(inputs), inputs.abs().mean(0), len(inputs))


def quantized(spec: QuantizerBase, weight: Tensor, *, seed: int = 0) -> QuantizedTensor:
    return QUANTIZERS.build(spec).quantize(weight, statistics(weight.shape[1]), seed=seed)
