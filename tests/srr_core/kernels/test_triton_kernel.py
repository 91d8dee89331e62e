"""The GPU kernels give the dense product, run by triton's interpreter on the CPU, and compile for real GPUs.

Each in a process of its own: the interpreter is chosen by a variable of the environment when triton is imported.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from srr_core.recipe import MXIntSpec
from tests.srr_core.exporters.artifacts import build_artifact, pico_llama

CHECK = """
import torch
from srr_core.kernels.planes import group_last, to_planes
from srr_core.kernels.triton_kernel import planar_decode, planar_multiply

for num_bits in (2, 3, 4, 5, 7, 8):
    for has_zero in (False, True):
        generator = torch.Generator().manual_seed(num_bits)
        rows, columns, group = 40, 96, 32
        codes = torch.randint(0, 1 << num_bits, (rows, columns), generator=generator, dtype=torch.uint8)
        scale = torch.rand(rows, columns // group, generator=generator) + 0.5
        zero = torch.randint(0, 1 << num_bits, (rows, columns // group), generator=generator, dtype=torch.uint8)
        centre = zero.float()[:, :, None] if has_zero else float(1 << (num_bits - 1))
        dense = ((codes.float().view(rows, -1, group) - centre) * scale[:, :, None]).view(rows, columns)
        x = torch.randn(5 if has_zero else 33, columns, generator=generator)
        # More than one block of the rank.
        left, right = torch.randn(rows, 70, generator=generator), torch.randn(70, columns, generator=generator)
        planes = to_planes(group_last(codes, group), num_bits)
        arguments = (group_last(x, group), planes, scale, zero if has_zero else None)
        decoded = planar_decode(*arguments[1:], num_bits=num_bits, dtype=torch.float32)
        assert torch.equal(decoded, group_last(dense, group))
        plain = planar_multiply(*arguments, num_bits=num_bits)
        torch.testing.assert_close(plain, x @ dense.t(), rtol=1e-4, atol=1e-3)
        whole = planar_multiply(*arguments, num_bits=num_bits, shared=x @ right.t(), left=left)
        torch.testing.assert_close(whole, x @ (dense + left @ right).t(), rtol=1e-4, atol=1e-3)
"""


MODEL = """
import sys
import torch
from srr_core.kernels import dispatch, triton_path
from srr_core.runtime import load


class InterpretedPath(triton_path.TritonPath):
    num_corrected = 0

    @classmethod
    def serves(cls, case):
        return super(triton_path.TritonPath, cls).serves(case)

    def multiply_corrected(self, *arguments):
        InterpretedPath.num_corrected += 1
        return super().multiply_corrected(*arguments)


few, many = torch.arange(3, 23).reshape(2, 10), torch.arange(3, 103).reshape(2, 50) % 90
with torch.inference_mode():
    model = load(sys.argv[1], dtype=torch.float16)
    expected = [model(tokens).logits for tokens in (few, many)]
    dispatch.PATHS = (InterpretedPath, *dispatch.PATHS)
    model = load(sys.argv[1], dtype=torch.float16)
    for tokens, logits in zip((few, many), expected, strict=True):
        InterpretedPath.num_corrected = 0
        torch.testing.assert_close(model(tokens).logits, logits, rtol=2e-2, atol=2e-2)
        assert InterpretedPath.num_corrected == 14
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from srr_core.kernels import triton_kernel
from srr_core.kernels.planes import plane_widths

COUNTS = ("rows", "outputs", "eighth", "groups", "rank")


def compiled(kernel, num_bits, has_zero, capability, block_rows):
    widths = (*plane_widths(num_bits), 0, 0)[:3]
    constants = {
        **{f"WIDTH_{index}": width for index, width in enumerate(widths)},
        "OFFSET": 1 << (num_bits - 1), "HAS_ZERO": has_zero, "BLOCK_M": block_rows,
        "BLOCK_N": triton_kernel.BLOCK_OUT, "BLOCK_K": triton_kernel.BLOCK_BYTES,
    }
    types = {"plane_0": "*u8", "plane_1": "*u8", "plane_2": "*u8", "zero_point": "*u8"}
    types |= dict.fromkeys(COUNTS, "i32") | dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "*bf16") for name in names},
        constexprs={name: value for name, value in constants.items() if name in names},
        # As for real layers, whose sizes are multiples of 16: these take the most shared memory.
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in names if n not in constants},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=triton_kernel.LAUNCH)


for capability in (80, 90):
    for num_bits, has_zero in ((2, False), (3, True), (4, False), (7, False), (8, True)):
        for block_rows in (triton_kernel.FEWEST_ROWS, triton_kernel.MOST_ROWS):
            product = compiled(triton_kernel._multiply, num_bits, has_zero, capability, block_rows)
            assert product.asm["cubin"] and product.metadata.shared <= 48 << 10, product.metadata.shared
        assert compiled(triton_kernel._decode, num_bits, has_zero, capability, block_rows).asm["cubin"]
"""

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed (it comes with CUDA builds of torch)"
)


def run(*arguments, interpreted):
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    environment |= {"TRITON_INTERPRET": "1"} if interpreted else {}
    command = [sys.executable, "-c", *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert outcome.returncode == 0, outcome.stderr[-2000:]


@pytest.mark.slow
@needs_triton
def test_kernel_with_and_without_correction_equals_the_dense_product():
    run(CHECK, interpreted=True)


@pytest.mark.slow
@needs_triton
def test_loaded_model_lets_the_kernel_add_the_correction(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))
    run(MODEL, artifact.directory, interpreted=True)


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_real_gpus():
    run(COMPILED, interpreted=False)
