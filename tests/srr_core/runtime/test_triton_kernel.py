"""The GPU kernel gives the dense product, run by triton's interpreter on the CPU, in a process of its own."""

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
from srr_core.runtime.planes import group_last, to_planes
from srr_core.runtime.triton_kernel import planar_multiply

for num_bits in (2, 3, 4, 5, 7, 8):
    for has_zero in (False, True):
        generator = torch.Generator().manual_seed(num_bits)
        rows, columns, group = 40, 96, 32
        codes = torch.randint(0, 1 << num_bits, (rows, columns), generator=generator, dtype=torch.uint8)
        scale = torch.rand(rows, columns // group, generator=generator) + 0.5
        zero = torch.randint(0, 1 << num_bits, (rows, columns // group), generator=generator, dtype=torch.uint8)
        centre = zero.float()[:, :, None] if has_zero else float(1 << (num_bits - 1))
        dense = ((codes.float().view(rows, -1, group) - centre) * scale[:, :, None]).view(rows, columns)
        x = torch.randn(5, columns, generator=generator)
        # More than one block of the rank.
        left, right = torch.randn(rows, 70, generator=generator), torch.randn(70, columns, generator=generator)
        planes = to_planes(group_last(codes, group), num_bits)
        arguments = (group_last(x, group), planes, scale, zero if has_zero else None)
        plain = planar_multiply(*arguments, num_bits=num_bits)
        torch.testing.assert_close(plain, x @ dense.t(), rtol=1e-4, atol=1e-3)
        whole = planar_multiply(*arguments, num_bits=num_bits, shared=x @ right.t(), left=left)
        torch.testing.assert_close(whole, x @ (dense + left @ right).t(), rtol=1e-4, atol=1e-3)
"""


MODEL = """
import sys
import torch
from srr_core.runtime import dispatch, load, triton_path


class InterpretedPath(triton_path.TritonPath):
    num_corrected = 0

    @classmethod
    def serves(cls, case):
        return super(triton_path.TritonPath, cls).serves(case)

    def multiply_corrected(self, *arguments):
        InterpretedPath.num_corrected += 1
        return super().multiply_corrected(*arguments)


tokens = torch.arange(3, 23).reshape(2, 10)
with torch.inference_mode():
    expected = load(sys.argv[1], dtype=torch.float32)(tokens).logits
    dispatch.PATHS = (InterpretedPath, *dispatch.PATHS)
    torch.testing.assert_close(load(sys.argv[1], dtype=torch.float32)(tokens).logits, expected, rtol=1e-4, atol=1e-4)
assert InterpretedPath.num_corrected == 14
"""

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed (it comes with CUDA builds of torch)"
)


def run_interpreted(*arguments):
    root = Path(__file__).parents[3]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-c", *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert outcome.returncode == 0, outcome.stderr[-2000:]


@pytest.mark.slow
@needs_triton
def test_kernel_with_and_without_correction_equals_the_dense_product():
    run_interpreted(CHECK)


@pytest.mark.slow
@needs_triton
def test_loaded_model_lets_the_kernel_add_the_correction(tmp_path):
    run_interpreted(MODEL, build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3)).directory)
