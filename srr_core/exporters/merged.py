"""Q + L·R as one dense matrix per layer: loads everywhere, and shows what the packed forms save."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from srr_core.checkpoint.expert_names import stacked_part
from srr_core.exporters.card import ExportCard
from srr_core.exporters.exporter import Exporter, carry_files, write_config, write_shards
from srr_core.formats.artifact import Artifact
from srr_core.recipe import MergedSpec
from srr_core.verification.reload import merged_stack, merged_weight, transposed_modules

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class MergedExporter(Exporter[MergedSpec]):
    """Sums in float32 and rounds once, to the dtype asked for."""

    @override
    def write(self, artifact: Artifact, destination: Path) -> tuple[str, ...]:
        """Write a plain checkpoint without any quantization."""
        write_shards(destination, self._tensors(artifact))
        changes: dict[str, Any] = {"quantization_config": None, "torch_dtype": None, "dtype": self.spec.dtype}
        write_config(artifact, destination, changes)
        carry_files(artifact, destination)
        return (f"every weight is Q + L·R, summed in float32 and rounded once to {self.spec.dtype}",)

    @override
    def cards(self, artifact: Artifact) -> tuple[ExportCard, ...]:
        """Return the card of a plain checkpoint."""
        loading = "As any model of transformers or of a server; nothing of ours is needed."
        return (ExportCard(f"a dense checkpoint in {self.spec.dtype}", loading, "transformers"),)

    def _tensors(self, artifact: Artifact) -> Iterator[tuple[str, Tensor]]:
        dtype = _DTYPES[self.spec.dtype]
        transposed = transposed_modules(artifact)
        for name in artifact.plain_names():
            tensor = artifact.weights[name]
            yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor
        for module in artifact.module_names():
            if stacked_part(module) is None:
                weight = merged_weight(artifact, module)
                yield f"{module}.weight", (weight.t() if module in transposed else weight).to(dtype)
        for parameter in artifact.stacks():
            yield parameter, merged_stack(artifact, parameter).to(dtype)
