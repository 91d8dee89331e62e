"""Codes and scales become the weights that stock loaders make of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import save_file
from torch import Tensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from srr_core.checkpoint.decoding import decoded
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.recipe.stored_schemes import stored_scheme

FP8: dict[str, Any] = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 8]}}
PACKED: dict[str, Any] = {
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 16}}},
    }
}


def _codes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.float8_e4m3fn)


def _read(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> CheckpointReader:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    reader = CheckpointReader(folder)
    return reader.showing(decoded(reader.entries, config)[0])


def test_blocks_of_eight_bit_floats_are_multiplied_with_their_scales(tmp_path: Path) -> None:
    codes, scale = _codes(8, 16), torch.rand(2, 2) + 0.5
    reader = _read(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale, "b": torch.ones(2)}, FP8)

    assert set(reader) == {"a.weight", "b"}
    assert reader.entry("a.weight").shape == (8, 16)
    stock = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.bfloat16)
    assert torch.equal(reader["a.weight"], stock)


def test_blocks_at_the_edge_may_be_smaller(tmp_path: Path) -> None:
    codes, scale = _codes(6, 12), torch.rand(2, 2) + 0.5
    reader = _read(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale}, FP8)
    wide = scale.repeat_interleave(4, 0)[:6].repeat_interleave(8, 1)[:, :12]
    assert torch.equal(reader["a.weight"], (codes.float() * wide).bfloat16())


@pytest.mark.parametrize("shape", [(), (1,), (8,), (8, 1)], ids=str)
def test_one_scale_for_all_or_one_a_row(shape: tuple[int, ...], tmp_path: Path) -> None:
    codes, scale = _codes(8, 16), torch.rand(shape) + 0.5
    reader = _read(tmp_path, {"a.weight": codes, "a.weight_scale": scale, "a.input_scale": torch.ones(1)}, FP8)
    assert set(reader) == {"a.weight"}
    wide = scale.reshape(-1, 1)
    assert torch.equal(reader["a.weight"], (codes.float() * wide).bfloat16())


def test_scales_that_are_exponents_are_powers_of_two(tmp_path: Path) -> None:
    codes, scale = _codes(4, 8), torch.tensor([[129]], dtype=torch.uint8)
    reader = _read(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale}, FP8)
    assert torch.equal(reader["a.weight"], (codes.float() * 4).bfloat16())


def test_stacked_experts_have_stacked_scales(tmp_path: Path) -> None:
    codes, scale = _codes(3, 8, 16), torch.rand(3, 2, 2) + 0.5
    tensors = {"m.experts.gate_up_proj": codes, "m.experts.gate_up_proj_scale_inv": scale}
    reader = _read(tmp_path, tensors, FP8)
    wide = scale.repeat_interleave(4, 1).repeat_interleave(8, 2)
    assert torch.equal(reader["m.experts.gate_up_proj"], (codes.float() * wide).bfloat16())


def test_pairs_of_four_bit_floats_in_a_byte_are_unpacked(tmp_path: Path) -> None:
    codes = torch.randint(-128, 128, (4, 32), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    scale = torch.rand(4, 2) + 0.5
    reader = _read(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale}, FP8)
    stock = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.bfloat16)
    assert reader.entry("a.weight").shape == (4, 64)
    assert torch.equal(reader["a.weight"], stock)


def test_mxfp4_is_what_stock_loaders_make_of_it(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(120, 131, (2, 6, 3), dtype=torch.uint8, generator=generator)
    tensors = {"e.gate_up_proj_blocks": blocks, "e.gate_up_proj_scales": scales}
    reader = _read(tmp_path, tensors, {"quantization_config": {"quant_method": "mxfp4"}})
    assert set(reader) == {"e.gate_up_proj"}
    assert reader.entry("e.gate_up_proj").shape == (2, 96, 6)
    assert torch.equal(reader["e.gate_up_proj"], convert_moe_packed_tensors(blocks, scales))


def test_packed_integers_are_what_the_official_decoder_makes_of_them(tmp_path: Path) -> None:
    codes = torch.randint(-8, 8, (6, 32), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    tensors = {
        "weight_packed": pack_to_int32(codes, 4),
        "weight_scale": (torch.rand(6, 2) + 0.5).bfloat16(),
        "weight_shape": torch.tensor([6, 32]),
    }
    reader = _read(tmp_path, {f"a.{name}": tensor for name, tensor in tensors.items()}, PACKED)
    group = PACKED["quantization_config"]["config_groups"]["group_0"]
    official = PackedQuantizationCompressor.decompress(tensors, QuantizationScheme.model_validate(group))["weight"]
    assert set(reader) == {"a.weight"}
    assert torch.equal(reader["a.weight"], official.bfloat16())


def test_scales_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    reader = _read(tmp_path, {"a.weight": _codes(8, 16), "a.weight_scale_inv": torch.ones(3, 5)}, FP8)
    with pytest.raises(
        CheckpointError, match=r"'a\.weight' has shape \[8, 16\], which its scale \[3, 5\] does not fit"
    ):
        reader["a.weight"]


@pytest.mark.parametrize(
    ("tensors", "title"),
    [
        ({"a.qweight": "I32"}, "GPTQ or AWQ"),
        ({"a.weight": "I8", "a.SCB": "F32"}, "bitsandbytes 8-bit"),
        ({"a.weight": "U8", "a.weight.absmax": "U8"}, "bitsandbytes 4-bit"),
        ({"a.weight_packed": "U8", "a.weight_global_scale": "F32"}, "NVFP4"),
        ({"a.weight": "U8", "a.weight_scale": "F32"}, "8-bit integers with scales"),
        ({"a.weight": "BF16", "a.weight_scale": "F32"}, "parts of codes beside a plain weight"),
        ({"a.weight": "I8", "b.weight": "BF16"}, "whole numbers without a scale"),
    ],
)
def test_codes_that_are_not_decoded_are_known_by_their_names(tensors: dict[str, str], title: str) -> None:
    scheme = stored_scheme(tensors)
    assert scheme is not None
    assert (scheme.title, scheme.is_decoded) == (title, False)


@pytest.mark.parametrize(
    "tensors", [{"a.weight": "BF16"}, {"n.scale": "F32"}, {"q_scale": "BF16", "mask": "BOOL", "position_ids": "I64"}]
)
def test_plain_numbers_have_no_scheme(tensors: dict[str, str]) -> None:
    assert stored_scheme(tensors) is None


def test_codes_that_no_configuration_explains_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"quantized already \(FP8 with scales: a\.weight\).*would take the"
    ):
        _read(tmp_path, {"a.weight": _codes(8, 16), "a.weight_scale": torch.ones(())}, {})
