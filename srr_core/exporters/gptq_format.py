"""Q in the tensors of GPTQ: the stream of compressed-tensors transposed, with zero points and group indices.

`qweight` int32 [in·b/32, out], `qzeros` int32 [groups, out·b/32], `scales` [groups, out], `g_idx` int32 [in]. Of
symmetric grids `qzeros` holds zero - 1, the first version of the format, which everybody reads; checked with GPTQModel
7.6 and 7.7: weights are bit-equal. A zero point of 0 has no zero - 1, so other grids are written in the second version
(`gptq_v2`), where it stands as it is; read in GPTQModel 7.7, not run.
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
from srr_core.exporters.card import ExportCard
from srr_core.exporters.exporter import Exporter, carry_files, write_config, write_shards
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import Artifact
from srr_core.formats.grid import scale_dtype, to_signed
from srr_core.formats.layout import stored
from srr_core.formats.packing import pack_int32
from srr_core.recipe import GPTQFormatSpec, UniformGrid
from srr_core.recipe.compatibility import GPTQ_BITS, GPTQ_GROUPS
from srr_core.types import IntegerTensor
from srr_core.verification.reload import transposed_modules

FIRST_VERSION, SECOND_VERSION = "gptq", "gptq_v2"
_NEEDS = "needs gptqmodel and optimum beside transformers and peft"
_ZERO_POINTS = "zero points are in the second version of the format, which GPTQModel reads and vLLM does not"

_WORD_CODES = 32
"""Rows and columns must be multiples of this for the stream to end with a word."""


class GPTQFormatExporter(Exporter[GPTQFormatSpec]):
    """Takes uniform grids of the bits and groups that GPTQ kernels know."""

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
            "sym": grid.is_symmetric,
            "checkpoint_format": FIRST_VERSION if grid.is_symmetric else SECOND_VERSION,
            "lm_head": False,
            "pack_dtype": "int32",
        }
        write_config(artifact, destination, {"quantization_config": quantization})
        write_json(destination / "quantize_config.json", quantization)
        if artifact.adapter is not None:
            for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
                shutil.copyfile(artifact.directory / name, destination / name)
        carry_files(artifact, destination)
        return (_NEEDS,) if grid.is_symmetric else (_NEEDS, _ZERO_POINTS)

    @override
    def cards(self, artifact: Artifact) -> tuple[ExportCard, ...]:
        """Return the card of a GPTQ checkpoint."""
        return (ExportCard("a GPTQ checkpoint", _LOADING, "transformers"),)


_LOADING = """```sh
pip install transformers peft gptqmodel optimum
```

`AutoModelForCausalLM.from_pretrained` keeps Q packed and attaches L·R, which is a LoRA adapter beside it. Without
`peft` it loads Q alone, silently."""


def _checked_grid(artifact: Artifact) -> UniformGrid:
    if artifact.layout.mixed:
        raise ExportError(
            "the layers of this artifact have bits and groups of their own, which this export does not write yet; "
            "export gguf or merged instead"
        )
    grid = artifact.layout.spec.uniform_grid
    if grid is None:
        raise ExportError("the GPTQ format takes uniform codes only; export merged instead")
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
    # pack_int32 adds 2**(b-1) to signed codes. Of symmetric grids that is the zero point; the format stores one less.
    zeros = torch.full((grid.num_groups(in_features), out_features), -1, dtype=torch.int8)
    if quantized.zero_point is not None:
        zeros = to_signed(quantized.zero_point, grid).t().contiguous()
    tensors = {
        "qweight": pack_int32(to_signed(quantized.codes, grid), grid.num_bits).t(),
        "qzeros": pack_int32(zeros, grid.num_bits),
        "scales": quantized.scale.t().to(scale_dtype(grid)),
        "g_idx": groups.to(torch.int32),
    }
    return stored({f"{module_name}.{suffix}": tensor for suffix, tensor in tensors.items()})
