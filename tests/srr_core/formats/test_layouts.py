"""Every layout gives back the codes it was given, and says why it cannot hold others."""

import json

import pytest
import torch

from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.compressed_tensors import CompressedTensorsLayout
from srr_core.formats.layouts import layout_of, native_layout
from srr_core.formats.srr_layout import SRRLayout
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec, Recipe
from srr_core.verification.digest import layer_digest

SPECS = [
    *(MXIntSpec(num_bits=bits, block_size=block) for bits in range(2, 9) for block in (16, 32)),
    *(IntegerSpec(num_bits=bits, group_size=32, symmetric=sign) for bits in range(2, 9) for sign in (True, False)),
]


def quantized_weight(spec, rows=24, columns=96):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)) * 0.05
    weight[0, :32] = 0
    weight[1, :32] *= 2.0**-20
    weight[2, :32] *= 2.0**12
    return QUANTIZERS.build(spec).quantize(weight, None)


@pytest.mark.parametrize("layout_class", [CompressedTensorsLayout, SRRLayout])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.num_bits}-{spec.bits_per_weight:.2f}")
def test_layer_written_and_read_is_the_same(layout_class, spec):
    layout, quantized = layout_class(spec), quantized_weight(spec)
    tensors = layout.layer_tensors("block.0.up", quantized)
    assert set(tensors) == set(layout.tensor_names("block.0.up"))
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    again = layout.read_layer("block.0.up", tensors.__getitem__)
    assert layer_digest(again, None, None) == layer_digest(quantized, None, None)
    assert torch.equal(again.dequantize(), quantized.dequantize())


@pytest.mark.parametrize("double_quantization", [True, False])
@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_normal_float_layer_written_and_read_is_the_same(num_bits, double_quantization):
    spec = NormalFloatSpec(num_bits=num_bits, block_size=64, double_quantization=double_quantization)
    layout, quantized = native_layout(spec), quantized_weight(spec, columns=75)
    again = layout.read_layer("m", layout.layer_tensors("m", quantized).__getitem__)
    assert layer_digest(again, None, None) == layer_digest(quantized, None, None)
    assert torch.equal(again.dequantize(), quantized.dequantize())


@pytest.mark.parametrize("symmetric", [True, False])
def test_inputs_a_group_does_not_divide_go_to_our_own_layout(symmetric):
    spec = IntegerSpec(num_bits=3, group_size=32, symmetric=symmetric)
    quantized = quantized_weight(spec, columns=75)
    layout = native_layout(spec, in_features=[64, 75])
    assert isinstance(layout, SRRLayout)
    again = layout.read_layer("m", layout.layer_tensors("m", quantized).__getitem__)
    assert torch.equal(again.dequantize(), quantized.dequantize())
    with pytest.raises(ExportError, match="75 inputs"):
        CompressedTensorsLayout(spec).layer_tensors("m", quantized)


def test_stock_layout_is_chosen_where_it_can_hold_the_model():
    assert native_layout(MXIntSpec()).stock_loadable
    assert native_layout(GPTQSpec(), in_features=[128, 256]).stock_loadable
    assert not native_layout(MXIntSpec(), all_linear=False).stock_loadable
    assert native_layout(IntegerSpec(symmetric=True), has_fused_experts=True).stock_loadable
    assert not native_layout(IntegerSpec(symmetric=False), has_fused_experts=True).stock_loadable


@pytest.mark.parametrize("layout_class", [CompressedTensorsLayout, SRRLayout])
def test_layout_is_found_again_from_its_configuration(layout_class):
    spec = GPTQSpec(grid=MXIntSpec(num_bits=3))
    config = layout_class(spec).quantization_config(Recipe(quantizer=spec), ignore=["lm_head"], modules=["a"])
    layout = layout_of(json.loads(json.dumps(config)), file="config.json")
    assert type(layout) is layout_class
    assert layout.spec == spec


def test_configuration_of_another_tool_is_refused():
    with pytest.raises(CheckpointError, match="not one of our artifacts"):
        layout_of({"quant_method": "compressed-tensors", "format": "pack-quantized"}, file="config.json")


@pytest.mark.parametrize("suffix", ["weight_packed", "weight_scale", "weight_shape", "weight_zero_point"])
def test_tensor_of_the_wrong_dtype_is_refused_by_name(suffix):
    spec = IntegerSpec(num_bits=4, group_size=32, symmetric=False)
    layout = CompressedTensorsLayout(spec)
    tensors = layout.layer_tensors("a.b", quantized_weight(spec))
    tensors[f"a.b.{suffix}"] = tensors[f"a.b.{suffix}"].to(torch.float64)
    with pytest.raises(CheckpointError, match=rf"a\.b\.{suffix} has dtype torch\.float64"):
        layout.read_layer("a.b", tensors.__getitem__)


@pytest.mark.parametrize("suffix", ["weight_packed", "weight_scale", "weight_shape", "weight_zero_point"])
def test_tensor_of_the_wrong_shape_is_refused_by_name(suffix):
    spec = IntegerSpec(num_bits=4, group_size=32, symmetric=False)
    layout = CompressedTensorsLayout(spec)
    tensors = layout.layer_tensors("a.b", quantized_weight(spec))
    tensors[f"a.b.{suffix}"] = tensors[f"a.b.{suffix}"][:-1]
    with pytest.raises(CheckpointError, match=rf"a\.b\.{suffix} has shape"):
        layout.read_layer("a.b", tensors.__getitem__)


def test_scales_the_file_would_round_are_refused():
    spec = MXIntSpec(num_bits=4)
    quantized = quantized_weight(spec)
    quantized.scale.mul_(1.0001)
    with pytest.raises(ExportError, match="would round"):
        CompressedTensorsLayout(spec).layer_tensors("m", quantized)


def test_codes_of_another_grid_are_refused():
    with pytest.raises(ExportError, match="the recipe says"):
        CompressedTensorsLayout(MXIntSpec(num_bits=3)).layer_tensors("m", quantized_weight(MXIntSpec(num_bits=4)))
