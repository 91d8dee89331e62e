"""An artifact on disk: its layout, its layers one at a time, and what must be true before any is read."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from srr_core.checkpoint.artifact_names import CONFIG_FILE, STACKED_LEFT, STACKED_RIGHT
from srr_core.checkpoint.expert_names import stacked_part
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.adapter import ADAPTER_WEIGHTS, adapter_names, read_adapter, read_beside
from srr_core.formats.artifact_files import adapter_entries, check_layers, packed_modules
from srr_core.formats.codecs import Codec
from srr_core.formats.expert_factors import ExpertPart, expert_parts
from srr_core.formats.layout import Layout
from srr_core.formats.layouts import layout_of
from srr_core.formats.stored_forms import Marker, read_marker
from srr_core.types import QuantizedTensor

CONFIG_NAME = CONFIG_FILE


@dataclass(frozen=True)
class StoredLayer:
    """One layer as read from disk; factors keep the padding to the adapter's rank."""

    quantized: QuantizedTensor
    left: Shaped[Tensor, "out rank"] | None
    right: Shaped[Tensor, "rank in"] | None


@dataclass(frozen=True)
class Artifact:
    """A native checkpoint of ours, opened; no weight is in memory."""

    directory: Path
    config: Mapping[str, Any]
    layout: Layout
    rank: int
    """Rank of the adapter; 0 where there is none."""
    weights: CheckpointReader
    adapter: CheckpointReader | None
    shapes: Mapping[str, tuple[int, int]]
    """(out, in) of the compressed modules."""
    bare: frozenset[str] = frozenset()
    """Compressed modules without L·R."""
    turned: frozenset[str] = frozenset()
    """Stacked parameters whose matrices are [inputs, outputs] in the model."""
    parts: Mapping[str, ExpertPart] = field(default_factory=dict)
    """Where the factors of experts lie in the adapter, by the experts' names."""
    on_layer: Callable[[str], None] | None = None
    """Called with the name of a layer before it is read; may raise, to stop whoever reads."""

    def module_names(self) -> list[str]:
        """Return the compressed modules, in the order of the file."""
        return packed_modules(self.weights)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model the artifact stands for, L·R left out."""
        plain = sum(math.prod(self.weights.entries[name].shape) for name in self.plain_names())
        return plain + sum(rows * columns for rows, columns in self.shapes.values())

    def codec_of(self, module_name: str) -> Codec:
        """Return the codec a module was written with."""
        return self.layout.of(module_name).codec

    def plain_names(self) -> list[str]:
        """Return the tensors kept as they were in the source."""
        packed = {name for module in self.module_names() for name in self._tensor_names(module)}
        return [name for name in self.weights if name not in packed]

    def stacks(self) -> dict[str, list[str]]:
        """Return stacked parameters of the model, each with its matrices in order."""
        found: dict[str, dict[int, str]] = {}
        for module in self.module_names():
            part = stacked_part(module)
            if part is not None:
                found.setdefault(part.parameter, {})[part.index] = module
        return {parameter: [members[index] for index in sorted(members)] for parameter, members in found.items()}

    def _tensor_names(self, module_name: str) -> tuple[str, ...]:
        beside = (f"{module_name}.{STACKED_LEFT}", f"{module_name}.{STACKED_RIGHT}")
        names = self.layout.tensor_names(module_name)
        return (*names, *beside) if stacked_part(module_name) is not None else names

    def read_layer(self, module_name: str) -> StoredLayer:
        """Return one layer.

        Raises:
            CheckpointError: a tensor is missing or not what the layout wrote.
        """
        if self.on_layer is not None:
            self.on_layer(module_name)
        quantized = self.layout.read_layer(module_name, self.weights.__getitem__)
        if stacked_part(module_name) is not None:
            left, right = read_beside(module_name, self.weights, quantized.shape)
            return StoredLayer(quantized, left, right)
        if self.adapter is None or module_name in self.bare:
            return StoredLayer(quantized, None, None)
        left, right = read_adapter(
            module_name,
            self.adapter.__getitem__,
            rank=self.rank,
            shape=quantized.shape,
            part=self.parts.get(module_name),
        )
        return StoredLayer(quantized, left, right)


def open_artifact(directory: Path) -> Artifact:
    """Open an artifact after checking that its parts belong together.

    Raises:
        CheckpointError: not an artifact of ours, a damaged file, a dense weight beside a packed one,
            or an adapter that is missing, unwanted, or of other layers or another rank.
    """
    config = read_json(directory / CONFIG_NAME)
    quantization_config = config.get("quantization_config")
    if not isinstance(quantization_config, dict):
        raise CheckpointError(f"{CONFIG_NAME}: has no quantization_config; this is not a compressed model")
    layout = layout_of(quantization_config, file=CONFIG_NAME)
    marker = read_marker(quantization_config, file=CONFIG_NAME)
    rank, bare = marker.rank, marker.bare
    weights = CheckpointReader(directory, may_have_adapter=True)
    shapes = check_layers(weights, lambda module: layout.of(module).codec)
    if not shapes:
        raise CheckpointError(f"{directory.name!r}: no layer of the checkpoint is compressed")
    entries = adapter_entries(
        directory, rank, {name: shape for name, shape in shapes.items() if name not in bare}, paths=marker.paths
    )
    adapter = CheckpointReader(directory, entries=entries) if rank else None
    turned = frozenset(name for name, is_turned in marker.stacks.items() if is_turned)
    artifact = Artifact(directory, config, layout, rank, weights, adapter, shapes, bare, turned, _parts(shapes, marker))
    _check_adapter_names(artifact)
    return artifact


def _parts(modules: Iterable[str], marker: Marker) -> dict[str, ExpertPart]:
    try:
        return expert_parts(modules, marker.paths) if marker.rank else {}
    except ExportError as error:
        raise CheckpointError(str(error)) from error


def _check_adapter_names(artifact: Artifact) -> None:
    if artifact.adapter is not None:
        corrected = [m for m in artifact.module_names() if m not in artifact.bare and stacked_part(m) is None]
        wanted = {name for module in corrected for name in adapter_names(module, artifact.parts.get(module))}
        for name in sorted(wanted.symmetric_difference(artifact.adapter)):
            state = "is missing" if name in wanted else "belongs to no compressed layer"
            raise CheckpointError(f"{ADAPTER_WEIGHTS}: tensor {name!r} {state}")
