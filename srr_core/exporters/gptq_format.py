"""Q in the tensors of GPTQ: the stream of compressed-tensors transposed, with zero points and group indices.

`qweight` int32 [in·b/32, out], `qzeros` int32 [groups, out·b/32] holding zero - 1 (the first version of the
format), `scales` [groups, out], `g_idx` int32 [in]. Checked with GPTQModel 7.6 and 7.7: weights are bit-equal.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from srr_core.checkpoint.writer import write_json
from srr_core.errors import ExportError
from srr_core.exporters.exporter import Exporter, carry_files, write_config, write_shards
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import Artifact
from srr_core.formats.grid import scale_dtype
from srr_core.formats.layout import stored
from srr_core.formats.packing import pack_int32
from srr_core.recipe import GPTQFormatSpec, UniformGrid
from srr_core.recipe.compatibility import GPTQ_BITS, GPTQ_GROUPS
from srr_core.types import IntegerTensor
from srr_core.verification.reload import transposed_modules

_WORD_CODES = 32
"""Rows and columns must be multiples of this for the stream to end with a word."""


class GPTQFormatExporter(Exporter[GPTQFormatSpec]):
    """Takes symmetric grids of the bits and groups that GPTQ kernels know."""

    @override
    def write(self, artifact: Artifact, destination: Path) -> tuple[str, ...]:
        """Write a GPTQ checkpoint with the adapter beside it.

        Raises:
            ExportError: the grid or a shape is not one GPTQ kernels take.
        """
        grid = _checked_grid(artifact)
        write_shards(destination, _tensors(artifact, grid))
        quantization: dict[str, Any] = {
            "quant_method": "gptq",
            "bits": grid.num_bits,
            "group_size": grid.group_size,
            "desc_act": False,
            "sym": True,
            "checkpoint_format": "gptq",
            "lm_head": False,
            "pack_dtype": "int32",
        }
        write_config(artifact, destination, {"quantization_config": quantization})
        write_json(destination / "quantize_config.json", quantization)
        if artifact.adapter is not None:
            for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
                shutil.copyfile(artifact.directory / name, destination / name)
        carry_files(artifact, destination)
        return ("needs gptqmodel and optimum beside transformers and peft",)


def _checked_grid(artifact: Artifact) -> UniformGrid:
    grid = artifact.layout.spec.uniform_grid
    if grid is None or not grid.is_symmetric:
        raise ExportError("the GPTQ format takes symmetric uniform codes only; export merged instead")
    if grid.num_bits not in GPTQ_BITS or grid.group_size not in GPTQ_GROUPS:
        raise ExportError(
            f"GPTQ kernels take {GPTQ_BITS} bits in groups of {GPTQ_GROUPS}; this artifact has {grid.num_bits} bits "
            f"in groups of {grid.group_size}"
        )
    stacks = artifact.stacks()
    if stacks:
        raise ExportError(f"{min(stacks)} holds the experts in one tensor; the GPTQ format takes linear layers only")
    transposed = transposed_modules(artifact)
    if transposed:
        raise ExportError(f"{min(transposed)} is stored transposed; the GPTQ format takes plain linear layers only")
    return grid


def _tensors(artifact: Artifact, grid: UniformGrid) -> Iterator[tuple[str, Tensor]]:
    for name in artifact.plain_names():
        yield name, artifact.weights[name]
    for module in artifact.module_names():
        quantized = artifact.read_layer(module).quantized
        if not isinstance(quantized, IntegerTensor):
            raise ExportError(f"{module} holds {quantized.layout} codes, the GPTQ format needs integers")
        yield from gptq_tensors(module, quantized, grid).items()


def gptq_tensors(module_name: str, quantized: IntegerTensor, grid: UniformGrid) -> dict[str, Tensor]:
    """Return the four tensors of one layer.

    Raises:
        ExportError: a side of the weight is no multiple of 32.
    """
    out_features, in_features = quantized.shape
    if out_features % _WORD_CODES or in_features % _WORD_CODES or not grid.divides(in_features):
        raise ExportError(f"{module_name} is {out_features} x {in_features}; GPTQ kernels need multiples of 32")
    groups = torch.arange(in_features) // grid.group_size
    # The zero point is 2**(b-1); the format stores one less, and pack_int32 adds 2**(b-1) to signed codes.
    zeros = torch.full((grid.num_groups(in_features), out_features), -1, dtype=torch.int8)
    tensors = {
        "qweight": pack_int32(quantized.codes, grid.num_bits).t(),
        "qzeros": pack_int32(zeros, grid.num_bits),
        "scales": quantized.scale.t().to(scale_dtype(grid)),
        "g_idx": groups.to(torch.int32),
    }
    return stored({f"{module_name}.{suffix}": tensor for suffix, tensor in tensors.items()})
