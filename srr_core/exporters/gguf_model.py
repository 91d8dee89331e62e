"""The two files: Q in block types that hold it exactly, and L·R as a LoRA whose scale is one."""

import dataclasses
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srr_core.errors import CheckpointError, ExportError
from srr_core.exporters.gguf_naming import Naming, plain_dtype
from srr_core.exporters.gguf_rounding import round_to, rounding_error, type_for
from srr_core.exporters.gguf_tensors import EncodedTensor, encode
from srr_core.exporters.gguf_tokenizer import add_tokenizer
from srr_core.formats.artifact import Artifact
from srr_core.recipe import GGUFSpec, UniformGrid
from srr_core.recipe.gguf_types import holds_packed, rounded_type
from srr_core.types import IntegerTensor
from srr_core.verification.reload import dense_config, merged_weight

_TYPES = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.float16: gguf.GGMLQuantizationType.F16,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
}
_MERGED = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
_ROPE_DIVISORS = "rope_freqs.weight"
_SCALE_ONE = 0.0
"""llama.cpp scales by alpha / rank, and by one when alpha is zero, whatever the rank of a tensor."""


def merged_form(artifact: Artifact, spec: GGUFSpec) -> str:
    """Return the type that the layers' sum is written in, or "none" where Q is written as it is."""
    if spec.merged != "auto":
        return spec.merged
    grid = artifact.layout.spec.uniform_grid
    if artifact.adapter is None and holds_packed(grid):
        return "none"
    return rounded_type(grid).lower()


class ModelWriter:
    """Writes an artifact as one GGUF model.

    Raises:
        ExportError: the architecture or the grid is not one this export knows.
    """

    def __init__(self, artifact: Artifact, spec: GGUFSpec) -> None:
        self.artifact = artifact
        self.spec = spec
        self.form = merged_form(artifact, spec)
        self.naming = Naming(str((artifact.config.get("architectures") or [None])[0]), dense_config(artifact))

    def write(self, file: Path) -> str:
        """Write the file. Returns one sentence on block types and roundings. Raises ExportError."""
        writer = gguf.GGUFWriter(file, self.naming.architecture, use_temp_file=True)
        self._add_metadata(writer)
        for name in self.artifact.plain_names():
            values = self.naming.reorder_rows(name, self.artifact.weights[name])
            _add_plain(writer, self.naming.name(name), values.to(plain_dtype(values)))
        divisors = self.naming.rope_divisors()
        if divisors is not None:
            _add_plain(writer, _ROPE_DIVISORS, divisors)
        note = self._add_packed(writer) if self.form == "none" else self._add_merged(writer)
        _finish(writer)
        return note

    def _add_metadata(self, writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(str(self.artifact.config.get("_name_or_path") or self.artifact.directory.name))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        self.naming.add_hyperparameters(writer)
        add_tokenizer(writer, self.artifact.directory, self.naming.config.vocab_size)

    def _add_merged(self, writer: gguf.GGUFWriter) -> str:
        dtype = _MERGED.get(self.form)
        types: Counter[str] = Counter()
        changed = total = 0.0
        for module in self.artifact.module_names():
            name = f"{module}.weight"
            weight = self.naming.reorder_rows(name, merged_weight(self.artifact, module))
            if dtype is not None:
                types[self.form.upper()] += 1
                _add_plain(writer, self.naming.name(name), weight.to(dtype))
                continue
            block_type = type_for(self.form.upper(), weight.shape[1])
            data = round_to(weight.numpy(), block_type)
            writer.add_tensor(self.naming.name(name), data, raw_dtype=block_type)
            types[block_type.name] += 1
            lost, whole = rounding_error(weight.numpy(), data, block_type)
            changed, total = changed + lost, total + whole
        share = 100 * (changed / total) ** 0.5 if total else 0.0
        rounded = "" if dtype is not None else f"; rounding changed {share:.2f} % of their norm"
        return f"{file_sentence(types)}, Q + L·R merged{rounded}"

    def _add_packed(self, writer: gguf.GGUFWriter) -> str:
        grid = self.artifact.layout.spec.uniform_grid
        if grid is None:
            raise ExportError(f"no GGUF block type holds {self.artifact.layout.spec.kind} codes; export merged instead")
        types: Counter[str] = Counter()
        inexact, offsets = 0, 0.0
        for module in self.artifact.module_names():
            encoded = self._encode(module, self.artifact.layout.of(module).spec.uniform_grid or grid)
            writer.add_tensor(self.naming.name(f"{module}.weight"), encoded.data, raw_dtype=encoded.block_type)
            types[encoded.block_type.name] += 1
            inexact += encoded.inexact
            offsets = max(offsets, encoded.offset_error)
        exactness = "every weight exact" if inexact == 0 else f"{inexact} weights rounded, as was allowed"
        if not grid.is_symmetric:
            exactness = f"every code exact, offsets rounded to fp16, at most {100 * offsets:.2g} % of a step"
        return f"{file_sentence(types)}: {exactness}"

    def _encode(self, module: str, grid: UniformGrid) -> EncodedTensor:
        quantized = self.artifact.read_layer(module).quantized
        if not isinstance(quantized, IntegerTensor):
            raise CheckpointError(f"layer {module} holds {quantized.layout} codes, its recipe says integers")
        name = f"{module}.weight"
        reordered = dataclasses.replace(
            quantized,
            codes=self.naming.reorder_rows(name, quantized.codes),
            scale=self.naming.reorder_rows(name, quantized.scale),
            zero_point=None if quantized.zero_point is None else self.naming.reorder_rows(name, quantized.zero_point),
        )
        return encode(module, reordered, grid, allow_inexact=self.spec.allow_inexact)


def write_adapter(artifact: Artifact, naming: Naming, file: Path) -> None:
    """Write L·R as a LoRA in float32, rows in llama.cpp's order."""
    writer = gguf.GGUFWriter(file, naming.architecture, use_temp_file=True)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _SCALE_ONE)
    for module in artifact.module_names():
        layer = artifact.read_layer(module)
        if layer.left is None or layer.right is None:
            continue
        name = f"{module}.weight"
        target = naming.name(name)
        _add_plain(writer, f"{target}.lora_a", layer.right.to(torch.float32))
        _add_plain(writer, f"{target}.lora_b", naming.reorder_rows(name, layer.left).to(torch.float32))
    _finish(writer)


def file_sentence(types: Counter[str]) -> str:
    """Return how many layers have which block type, for people."""
    return ", ".join(f"{count} layers in {name}" for name, count in sorted(types.items()))


def _add_plain(writer: gguf.GGUFWriter, name: str, values: Tensor) -> None:
    writer.add_tensor(name, _as_numpy(values.contiguous()), raw_dtype=_TYPES[values.dtype])


def _as_numpy(values: Tensor) -> NDArray[np.generic]:
    # numpy has no bfloat16: GGUF takes the raw bytes, and the type from `raw_dtype`.
    raw: NDArray[np.generic] = (values.view(torch.uint8) if values.dtype == torch.bfloat16 else values).numpy()
    return raw


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
