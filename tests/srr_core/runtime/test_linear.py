"""A packed layer multiplies like its dense weight, on every path, and gives its codes back exactly."""

import copy

import pytest
import torch

from srr_core.formats.stored_forms import byte_codec, word_codec
from srr_core.kernels import paths
from srr_core.kernels.dispatch import PATHS, choose_path, dispatch_table
from srr_core.kernels.paths import Case
from srr_core.kernels.tiled_path import TiledPath
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.runtime.linear import PackedLinear
from srr_core.types import Statistics
from srr_core.verification.digest import layer_digest

ROWS, COLUMNS = 48, 96
WORD_SPECS = [
    *(MXIntSpec(num_bits=bits, block_size=block) for bits in range(2, 9) for block in (16, 32)),
    *(IntegerSpec(num_bits=bits, group_size=32, symmetric=sign) for bits in (2, 3, 4, 5, 8) for sign in (True, False)),
]
OWN_SPECS = [
    IntegerSpec(num_bits=3, group_size=64, symmetric=True),
    IntegerSpec(num_bits=4, group_size=64, symmetric=False),
    *(
        NormalFloatSpec(num_bits=bits, block_size=64, double_quantization=twice)
        for bits in (2, 4)
        for twice in (True, False)
    ),
    *(QuIPSharpSpec(num_bits=bits, coordinate_passes=0) for bits in (2, 3, 4)),
]
CASES = [(word_codec(spec), spec) for spec in WORD_SPECS] + [(byte_codec(spec), spec) for spec in OWN_SPECS]
CASE_IDS = [f"{type(codec).__name__}-{spec.kind}-{spec.num_bits}-{spec.bits_per_weight:.2f}" for codec, spec in CASES]

SERVED = [
    (path, codec, spec)
    for path in PATHS
    for codec, spec in CASES
    if path.serves(Case(codec, ROWS, COLUMNS, torch.bfloat16, "cpu", widen=True, native=True))
]
SERVED_IDS = [
    f"{path.name}-{type(codec).__name__}-{spec.kind}-{spec.bits_per_weight:.2f}" for path, codec, spec in SERVED
]


def weight(rows=ROWS, columns=COLUMNS):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(5)) * 0.1


def quantize(spec):
    x = torch.randn(200, COLUMNS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    statistics = Statistics(x.t() @ x / 200, x.abs().mean(0), 200)
    return QUANTIZERS.build(spec).quantize(weight(), statistics, seed=3)


def layer_of(codec, spec, *, bias=True, widen=False, native=False):
    quantized = quantize(spec)
    layer = PackedLinear(codec, COLUMNS, ROWS, bias=bias, dtype=torch.float32, widen=widen, native=native)
    for suffix, tensor in codec.pack("m", quantized).items():
        layer._parameters[suffix].data.copy_(tensor)
    if bias:
        layer.bias.data.copy_(torch.linspace(-1, 1, ROWS))
    return layer, quantized


def inputs(dtype=torch.float32, rows=5):
    return torch.randn(2, rows, COLUMNS, generator=torch.Generator().manual_seed(6)).to(dtype)


@pytest.mark.parametrize(("codec", "spec"), CASES, ids=CASE_IDS)
def test_product_equals_that_of_the_dense_weight(codec, spec):
    layer, quantized = layer_of(codec, spec)
    y = layer(inputs())
    expected = torch.nn.functional.linear(inputs(), quantized.dequantize(), layer.bias)
    # Both sum 96 products in float32, in another order.
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("codec", "spec"), CASES, ids=CASE_IDS)
def test_every_path_adds_a_correction_to_its_product(codec, spec):
    layer, quantized = layer_of(codec, spec)
    left, right = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(7)), weight(3)
    shared = inputs() @ right.t()
    expected = torch.nn.functional.linear(inputs(), quantized.dequantize() + left @ right, layer.bias)
    torch.testing.assert_close(layer(inputs(), shared=shared, left=left), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("path", "codec", "spec"), SERVED, ids=SERVED_IDS)
def test_every_path_gives_back_the_codes_it_was_given(path, codec, spec):
    case = Case(codec, ROWS, COLUMNS, torch.bfloat16, "cpu", widen=True, native=True)
    quantized = quantize(spec)
    again = path(case).restore(path(case).prepare(quantized))
    assert layer_digest(again, None, None) == layer_digest(quantized, None, None)


@pytest.mark.parametrize(("codec", "spec"), CASES, ids=CASE_IDS)
def test_gradient_of_the_input_is_that_of_the_dense_layer(codec, spec):
    layer, quantized = layer_of(codec, spec, bias=False)
    x, x_dense = inputs().requires_grad_(), inputs().requires_grad_()
    layer(x).square().sum().backward()
    torch.nn.functional.linear(x_dense, quantized.dequantize()).square().sum().backward()
    torch.testing.assert_close(x.grad, x_dense.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_bits", [2, 3, 4])
def test_int4_kernel_multiplies_exactly_up_to_bf16(num_bits):
    spec = MXIntSpec(num_bits=num_bits, block_size=32)
    layer, quantized = layer_of(word_codec(spec), spec, bias=False, widen=True)
    x = inputs(torch.bfloat16).requires_grad_()
    y = layer(x)
    assert layer.path.name == "int4pack"
    exact = inputs(torch.bfloat16).double() @ quantized.dequantize().double().t()
    # One rounding of the result to 8 significant bits.
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-6)
    y.sum().backward()
    ones = torch.ones(ROWS, dtype=torch.float64)
    torch.testing.assert_close(x.grad[0, 0].double(), ones @ quantized.dequantize().double(), rtol=2**-8, atol=1e-6)


def test_state_dict_holds_the_tensors_of_the_file_whatever_the_path():
    spec = MXIntSpec(num_bits=4)
    layer, quantized = layer_of(word_codec(spec), spec)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer(inputs(torch.bfloat16))
    assert layer.path.name == "int4pack"
    after = layer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh, _ = layer_of(word_codec(spec), spec, bias=True)
    fresh(inputs())
    fresh.load_state_dict(after)
    assert layer_digest(fresh.quantized(), None, None) == layer_digest(quantized, None, None)


def test_state_dict_of_something_else_leaves_the_weight_alone():
    spec = MXIntSpec(num_bits=4)
    layer, _ = layer_of(word_codec(spec), spec)
    y = layer(inputs())
    layer.load_state_dict({"bias": torch.zeros(ROWS)}, strict=False)
    torch.testing.assert_close(layer(inputs()), y - torch.linspace(-1, 1, ROWS), rtol=1e-6, atol=1e-6)


def test_path_follows_the_dtype_of_the_activations():
    spec = MXIntSpec(num_bits=4)
    layer, _ = layer_of(word_codec(spec), spec, bias=False)
    first = layer(inputs(torch.bfloat16))
    assert layer.path.name == "int4pack"
    layer(inputs())
    assert layer.path.name == "tiled"
    assert torch.equal(layer(inputs(torch.bfloat16)), first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_casting_the_layer_does_not_touch_its_weight(dtype, is_prepared):
    spec = IntegerSpec(num_bits=3, group_size=32, symmetric=False)
    layer, quantized = layer_of(word_codec(spec), spec)
    if is_prepared:
        layer(inputs())
    layer.to(dtype)
    assert layer.bias.dtype == dtype
    assert layer_digest(layer.quantized(), None, None) == layer_digest(quantized, None, None)


def test_copy_of_a_prepared_layer_works_alone():
    spec = MXIntSpec(num_bits=3)
    layer, _ = layer_of(word_codec(spec), spec)
    y = layer(inputs())
    assert torch.equal(copy.deepcopy(layer)(inputs()), y)


def test_prepared_layer_takes_the_memory_of_its_codes():
    spec = MXIntSpec(num_bits=3, block_size=32)
    layer, _ = layer_of(word_codec(spec), spec, bias=False)
    layer(inputs())
    held = sum(tensor.nbytes for tensor in [*layer.parameters(), *layer.buffers()])
    assert held == ROWS * COLUMNS * 3 // 8 + ROWS * COLUMNS // 32 * 2


def test_last_row_of_the_table_serves_what_no_other_does():
    spec = MXIntSpec(num_bits=3, block_size=32)
    assert choose_path(Case(byte_codec(spec), 4, 75, torch.float32, "cpu")).name == "plain"
    assert [name for name, _ in dispatch_table()][-1] == "plain"


def test_two_and_three_bits_are_widened_only_when_asked():
    codec = word_codec(MXIntSpec(num_bits=3))
    assert choose_path(Case(codec, 16, 64, torch.bfloat16, "cpu")).name == "tiled"
    assert choose_path(Case(codec, 16, 64, torch.bfloat16, "cpu", widen=True)).name == "int4pack"


GRID_CASES = [
    (codec, spec) for codec, spec in CASES if TiledPath.serves(Case(codec, ROWS, COLUMNS, torch.float32, "cpu"))
]


@pytest.mark.parametrize("rows", [1, 5], ids=["fused", "tiled"])
@pytest.mark.parametrize(
    ("codec", "spec"), GRID_CASES, ids=[f"{s.kind}-{s.bits_per_weight:.2f}" for _, s in GRID_CASES]
)
def test_native_kernel_multiplies_like_the_dense_weight(codec, spec, rows):
    layer, quantized = layer_of(codec, spec, bias=False, native=True)
    x = inputs(rows=rows)[:1]
    y = layer(x)
    assert layer.path.name == "native"
    torch.testing.assert_close(y, x @ quantized.dequantize().t(), rtol=1e-5, atol=1e-5)


def test_native_kernel_splits_a_large_layer_between_threads(monkeypatch):
    monkeypatch.setattr("srr_core.kernels.native._PARALLEL_WEIGHTS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    spec = MXIntSpec(num_bits=3)
    layer, quantized = layer_of(word_codec(spec), spec, bias=False, native=True)
    x = inputs(rows=1)[:1]
    torch.testing.assert_close(layer(x), x @ quantized.dequantize().t(), rtol=1e-5, atol=1e-5)


def test_without_a_compiler_the_tiled_path_serves(monkeypatch):
    monkeypatch.setattr("srr_core.kernels.native_path.native_library", lambda: None)
    spec = MXIntSpec(num_bits=3)
    layer, _ = layer_of(word_codec(spec), spec, native=True)
    layer(inputs())
    assert layer.path.name == "tiled"


BF16_CASES = [(word_codec(spec), spec) for spec in (WORD_SPECS[0], WORD_SPECS[-1])] + [
    (byte_codec(spec), spec) for spec in (OWN_SPECS[0], OWN_SPECS[2])
]


@pytest.mark.parametrize(("codec", "spec"), BF16_CASES, ids=[f"{spec.kind}-{spec.num_bits}" for _, spec in BF16_CASES])
def test_a_cpu_that_multiplies_bfloat16_gives_products_and_gradients_of_that_precision(monkeypatch, codec, spec):
    # Tiles of 16 rows, so that the gradient is a sum over three of them.
    monkeypatch.setattr(paths, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(paths, "CPU_TILE_WEIGHTS", 16 * COLUMNS)
    layer, quantized = layer_of(codec, spec, bias=False)
    x = inputs(torch.bfloat16, rows=paths.MANY_ROWS).requires_grad_()
    y = layer(x)
    y.backward(torch.ones_like(y))

    dense = quantized.dequantize().to(torch.bfloat16).float()
    expected = x.detach().float() @ dense.t()
    gradient = dense.sum(0).expand(x.shape)
    assert y.dtype == x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=2**-8, atol=1e-6 + 2**-8 * float(expected.abs().max()) / 8)
    # Half a unit of the last place for the product of every tile, and for the sum.
    rounded = torch.stack([tile.sum(0).abs() for tile in dense.split(16)]).sum(0) + dense.sum(0).abs()
    assert ((x.grad.float() - gradient).abs() <= 2**-8 * rounded + 1e-6).all()


@pytest.mark.parametrize(("dtype", "rows"), [(torch.float32, 64), (torch.bfloat16, paths.MANY_ROWS - 1)])
def test_few_rows_and_wider_activations_are_multiplied_in_float32(monkeypatch, dtype, rows):
    monkeypatch.setattr(paths, "multiplies_bfloat16", lambda: True)

    assert paths.product_dtype(torch.zeros(rows, COLUMNS, dtype=dtype)) == torch.float32
