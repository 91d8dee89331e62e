"""Every row of the quantizers' table can be written to disk, read again, and told about: no row is left half-made."""

import pytest
import torch

from srr_core.errors import ExportError
from srr_core.exporters.gguf_tensors import encode
from srr_core.exporters.gptq_format import gptq_tensors
from srr_core.formats.codecs import Codec
from srr_core.formats.layouts import native_layout
from srr_core.formats.stored_forms import byte_codec, word_codec
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import QuantizerBase, Recipe, cost, override
from srr_core.recipe.compatibility import compatibility
from srr_core.recipe.verdicts import CompatibilityRow
from srr_core.types import IntegerTensor, QuantizedTensor
from tests.srr_core.laws.cases import every_quantizer, gaussian, quantized

WHOLE = (64, 256)
"""A shape that every group and kernel divides."""
SHAPES = [(24, 128), (7, 40), (1, 33), (5, 1), (1, 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def assert_same(found: QuantizedTensor, wanted: QuantizedTensor) -> None:
    assert (type(found), found.shape, found.spec) == (type(wanted), wanted.shape, wanted.spec)
    assert found.tensors().keys() == wanted.tensors().keys()
    assert all(torch.equal(found.tensors()[name], wanted.tensors()[name]) for name in wanted.tensors())
    assert torch.equal(found.dequantize(), wanted.dequantize())


def verdict_row(spec: QuantizerBase, runtime: str) -> CompatibilityRow:
    found = compatibility(Recipe(quantizer=spec), [WHOLE], architecture="LlamaForCausalLM")
    (row,) = [row for row in found if row.runtime.startswith(runtime)]
    return row


def verdict(spec: QuantizerBase, runtime: str) -> str:
    return verdict_row(spec, runtime).verdict


@every_quantizer
@every_shape
def test_what_is_packed_in_our_own_layout_is_read_back(spec: QuantizerBase, shape: tuple[int, int]) -> None:
    result = quantized(spec, gaussian(*shape))
    codec = byte_codec(spec)

    packed = codec.pack("layer", result)

    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in packed.items()} == {
        name: (declared.dtype, declared.shape) for name, declared in codec.declared(shape).items()
    }
    assert_same(codec.rebuild(shape, packed), result)


@every_quantizer
@every_shape
def test_rows_decode_without_the_others(spec: QuantizerBase, shape: tuple[int, int]) -> None:
    result = quantized(spec, gaussian(*shape))
    codec = byte_codec(spec)
    packed = codec.pack("layer", result)
    step = codec.rows_multiple(shape)

    parts = [codec.decode_rows(shape, packed, start, min(start + step, shape[0])) for start in range(0, shape[0], step)]

    assert torch.equal(torch.cat(parts), result.dequantize())


@every_quantizer
def test_codes_of_another_quantizer_are_refused(spec: QuantizerBase) -> None:
    result = quantized(spec, gaussian(*WHOLE))
    own = byte_codec(spec).declared(WHOLE)
    others = [byte_codec(other()) for other in QUANTIZERS if byte_codec(other()).declared(WHOLE) != own]

    assert [refuses(codec, result) for codec in others] == [True] * len(others) != []


def refuses(codec: Codec, result: QuantizedTensor) -> bool:
    try:
        codec.pack("layer", result)
    except ExportError:
        return True
    return False


@every_quantizer
def test_a_uniform_grid_is_the_one_the_codes_lie_on(spec: QuantizerBase) -> None:
    result = quantized(spec, gaussian(24, 512) * torch.logspace(-6, 6, 512, base=2))
    grid = spec.uniform_grid

    assert isinstance(result, IntegerTensor) == (grid is not None)
    if not isinstance(result, IntegerTensor) or grid is None:
        return
    assert (result.num_bits, result.group_size) == (grid.num_bits, grid.group_size)
    assert (result.zero_point is None) == grid.is_symmetric
    exponents = torch.frexp(result.scale)
    assert not grid.is_power_of_two or bool((exponents.mantissa == 0.5).all())
    spread = exponents.exponent.unflatten(1, (-1, 256 // grid.group_size))
    assert grid.exponent_window is None or int((spread.amax(-1) - spread.amin(-1)).max()) <= grid.exponent_window


@every_quantizer
def test_the_answer_about_stock_loaders_is_what_the_layout_does(spec: QuantizerBase) -> None:
    layout = native_layout(spec, in_features=[WHOLE[1]])

    assert (verdict(spec, "transformers") == "yes") == layout.stock_loadable
    assert verdict(spec, "srr_core.runtime") == "yes"
    if layout.stock_loadable:
        result = quantized(spec, gaussian(*WHOLE))
        assert_same(word_codec(spec).rebuild(WHOLE, word_codec(spec).pack("layer", result)), result)


@every_quantizer
def test_an_export_that_is_promised_to_be_exact_is(spec: QuantizerBase) -> None:
    grid = spec.uniform_grid
    gguf = verdict_row(spec, "llama.cpp")
    assert gguf.verdict == "yes"
    is_exact = gguf.reason.endswith("holds Q exactly") or "holds Q exactly;" in gguf.reason
    is_served = verdict(spec, "GPTQ kernels") == "yes"
    assert grid is not None or not (is_exact or is_served)
    if grid is None:
        return
    result = quantized(spec, gaussian(*WHOLE))
    assert isinstance(result, IntegerTensor)

    if is_exact:
        assert encode("layer", result, grid, allow_inexact=False).inexact == 0
    if "no block type holds" in gguf.reason:
        with pytest.raises(ExportError, match="no GGUF block type"):
            encode("layer", result, grid, allow_inexact=False)
    if is_served:
        assert gptq_tensors("layer", result, grid)["layer.scales"].t().to(torch.float32).equal(result.scale)


@every_quantizer
def test_the_options_of_the_grid_are_where_the_specification_says(spec: QuantizerBase) -> None:
    recipe = Recipe(quantizer=spec)
    path = ".".join(("quantizer", *spec.grid_path))

    changed = override(recipe, {f"{path}.num_bits": 2})

    assert (changed.quantization_bits, recipe.quantization_bits) == (2, spec.num_bits)
    assert changed.quantizer.bits_per_weight <= spec.bits_per_weight
    group = spec.grid_options.group_field
    assert (group is None) == (type(spec.grid_options).model_fields.keys().isdisjoint({"group_size", "block_size"}))
    assert group is None or override(recipe, {f"{path}.{group}": 32}).quantizer.bits_per_weight > 0


@every_quantizer
def test_a_run_has_a_price(spec: QuantizerBase) -> None:
    recipe = Recipe(quantizer=spec)

    assert cost.operations(recipe, [WHOLE]) > 0
    assert recipe.bits_per_weight(*WHOLE) > spec.num_bits
