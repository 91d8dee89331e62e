"""Every quantizer composes with every named recipe. A new row of either table is met by all of the other."""

import math

import pytest
import torch

from srr_core.formats.layouts import native_layout
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import (
    PRESETS,
    GPTQSpec,
    IntegerSpec,
    LearnedSpec,
    MXIntSpec,
    NormalFloatSpec,
    QuantizerSpec,
    QuIPSharpSpec,
    override,
)
from srr_core.types import Decomposition
from tests.srr_core.problems import output_length, random_problem, rebuild, solve

CASES: dict[str, QuantizerSpec] = {
    "mxint, max": MXIntSpec(num_bits=3),
    "mxint, search": MXIntSpec(num_bits=2, exponent="search"),
    "integer, asymmetric": IntegerSpec(num_bits=3, group_size=32),
    "integer, symmetric": IntegerSpec(num_bits=3, group_size=32, symmetric=True),
    "integer, mse": IntegerSpec(num_bits=2, group_size=32, search="mse"),
    "nf4": NormalFloatSpec(num_bits=4),
    "nf3": NormalFloatSpec(num_bits=3, double_quantization=False),
    "nf2": NormalFloatSpec(num_bits=2),
    "gptq on integers": GPTQSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    "gptq on mxint": GPTQSpec(grid=MXIntSpec(num_bits=3)),
    "the start of learning": LearnedSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    "quip-sharp, 2 bits": QuIPSharpSpec(num_bits=2, coordinate_passes=1),
    "quip-sharp, 3 bits": QuIPSharpSpec(num_bits=3, coordinate_passes=0),
    "quip-sharp, 4 bits": QuIPSharpSpec(num_bits=4, coordinate_passes=0),
    **{f"{spec().kind} by default": spec() for spec in QUANTIZERS},
}
RANK = 4
OUT, IN = 16, 32
PROBLEM = random_problem(OUT, IN)


def test_every_quantizer_of_the_table_has_a_case() -> None:
    assert {type(spec) for spec in CASES.values()} == set(QUANTIZERS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", CASES)
def test_every_quantizer_composes_with_every_recipe(case: str, preset: str) -> None:
    rank = RANK if PRESETS[preset].rank else 0
    recipe = override(PRESETS[preset], {"quantizer": CASES[case].model_dump(), "rank": rank, "budget": None})

    result = solve(PROBLEM, recipe)

    assert _ranks(result) == ((rank, rank) if rank else (None, None))
    assert 0 <= result.preserved_rank <= rank
    assert all(math.isfinite(value) for value in vars(result.errors).values())
    error = output_length(PROBLEM.weight - rebuild(result), PROBLEM.statistics)
    assert result.errors.output == pytest.approx(error / output_length(PROBLEM.weight, PROBLEM.statistics), rel=1e-4)
    assert result.errors.output < 1
    layout = native_layout(recipe.quantizer, in_features=[IN])
    stored = layout.layer_tensors("layer", result.quantized)
    assert torch.equal(layout.read_layer("layer", stored.__getitem__).dequantize(), result.quantized.dequantize())


def _ranks(result: Decomposition) -> tuple[int | None, int | None]:
    if result.left is None or result.right is None:
        return None, None
    assert (len(result.left), result.right.shape[1]) == (OUT, IN)
    return result.left.shape[1], len(result.right)
