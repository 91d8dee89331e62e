"""NormalFloat against its published levels and error anchors, and double quantization of its magnitudes."""

import pytest
import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.quantizers.normal_float import Magnitudes, NormalFloatTensor, normal_float_levels
from srr_core.recipe import NormalFloatSpec

PUBLISHED_LEVELS = {
    4: (
        *(-1.0, -0.696193, -0.525073, -0.394917, -0.284441, -0.184773, -0.091050, 0.0),
        *(0.079580, 0.160930, 0.246112, 0.337915, 0.440710, 0.562617, 0.722957, 1.0),
    ),
    3: (-1.0, -0.478629, -0.217142, 0.0, 0.160930, 0.337915, 0.562617, 1.0),
    2: (-1.0, 0.0, 0.337915, 1.0),
}


def rounded(weight: Tensor, **options: object) -> NormalFloatTensor:
    quantized = QUANTIZERS.build(NormalFloatSpec.model_validate(options)).quantize(weight)
    assert isinstance(quantized, NormalFloatTensor)
    return quantized


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.02


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_levels_are_the_published_ones(num_bits: int) -> None:
    assert normal_float_levels(num_bits) == pytest.approx(PUBLISHED_LEVELS[num_bits], abs=1e-6)


@pytest.mark.parametrize("double_quantization", [False, True])
@pytest.mark.parametrize(("num_bits", "expected"), [(4, 0.00846), (3, 0.0406), (2, 0.3167)])
def test_error_on_gaussian_weights_is_the_published_one(
    num_bits: int, expected: float, double_quantization: bool
) -> None:
    weight = gaussian(512, 4096)

    error = rounded(weight, num_bits=num_bits, double_quantization=double_quantization).dequantize() - weight

    assert float(error.square().sum() / weight.square().sum()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_every_code_is_the_nearest_level_of_the_magnitude_as_stored(num_bits: int) -> None:
    weight = gaussian(8, 96)

    quantized = rounded(weight, num_bits=num_bits, block_size=32)
    assert isinstance(quantized.magnitudes, Magnitudes)
    stored = quantized.magnitudes.values().repeat_interleave(32).view(8, 96, 1)
    distances = (weight[..., None] - stored * torch.tensor(normal_float_levels(num_bits))).abs()
    chosen = distances.gather(-1, quantized.codes.long()[..., None])[..., 0]

    # Two levels at the same distance to the last bits of float32 are equally near.
    assert torch.allclose(chosen, distances.amin(-1), rtol=1e-5, atol=1e-9)


def test_a_magnitude_alone_in_its_block_is_exact_without_double_quantization() -> None:
    weight = gaussian(4, 128)

    values = rounded(weight, double_quantization=False).dequantize()
    largest = weight.abs().reshape(-1, 64).amax(-1)

    # -1 and +1 are levels, so the largest weight of each block is met.
    assert torch.equal(values.abs().reshape(-1, 64).amax(-1), largest)


@pytest.mark.parametrize(("outlier", "worst"), [(1.0, 0.004), (400.0, 0.014), (1e6, 0.04)])
def test_eight_bit_magnitudes_err_by_a_small_share_of_themselves_whatever_is_beside_them(
    outlier: float, worst: float
) -> None:
    weight = gaussian(64, 512)
    weight[3, 7] *= outlier

    magnitudes = rounded(weight).magnitudes
    assert isinstance(magnitudes, Magnitudes)
    measured = weight.abs().reshape(-1, 64).amax(-1)

    assert float((magnitudes.values() / measured - 1).abs().max()) < worst


def test_blocks_of_zeros_cost_the_others_nothing() -> None:
    weight = gaussian(64, 512)
    weight[::2] = 0.0

    values = rounded(weight).dequantize()

    assert torch.equal(values[::2], weight[::2])
    assert float((values - weight).norm() / weight.norm()) == pytest.approx(0.092, abs=0.002)


def test_some_blocks_have_the_magnitudes_that_all_have() -> None:
    magnitudes = rounded(gaussian(64, 512)).magnitudes
    assert isinstance(magnitudes, Magnitudes)
    assert torch.equal(magnitudes.values(200, 300), magnitudes.values()[200:300])


def test_a_tiny_block_among_large_ones_never_changes_sign() -> None:
    weight = torch.cat([gaussian(1, 64) * 1e-6, gaussian(1, 64 * 7)], dim=1)

    values = rounded(weight).dequantize()

    assert bool((values[:, :64] * weight[:, :64] >= 0).all())


def test_blocks_cross_rows_when_they_do_not_divide_the_inputs() -> None:
    weight = gaussian(3, 50)

    crossing = rounded(weight).dequantize()
    flat = rounded(weight.reshape(1, 150)).dequantize()

    assert torch.equal(crossing.reshape(1, 150), flat)


def test_tensors_are_enough_to_rebuild_the_value() -> None:
    quantized = rounded(gaussian(4, 96), num_bits=3)
    tensors = quantized.tensors()

    rebuilt = NormalFloatTensor(
        shape=quantized.shape,
        spec=quantized.spec,
        codes=tensors["codes"],
        magnitudes=Magnitudes(tensors["magnitude_codes"], tensors["magnitude_lowest"], tensors["magnitude_step"]),
        num_bits=3,
        block_size=64,
    )

    assert torch.equal(rebuilt.dequantize(), quantized.dequantize())


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_a_weight_halfway_between_two_levels_takes_the_lower_one(num_bits: int) -> None:
    levels = normal_float_levels(num_bits)
    lower, upper = (torch.tensor(level, dtype=torch.float32) for level in levels[-2:])
    halfway = float((lower + upper) / 2)
    weight = torch.tensor([[1.0, halfway, *[0.0] * 30]])

    values = rounded(weight, num_bits=num_bits, block_size=32, double_quantization=False).dequantize()

    assert float(values[0, 1]) == pytest.approx(float(lower), rel=1e-6)
