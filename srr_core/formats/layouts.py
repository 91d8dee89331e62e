"""Which layout a result is written in, and which one an artifact on disk was written in."""

from collections.abc import Iterable, Mapping
from typing import Any

from srr_core.checkpoint.artifact_names import COMPRESSED_TENSORS
from srr_core.formats.compressed_tensors import CompressedTensorsLayout
from srr_core.formats.layout import Layout
from srr_core.formats.srr_layout import SRRLayout
from srr_core.formats.stored_forms import read_marker
from srr_core.recipe import QuantizerSpec


def native_layout(
    spec: QuantizerSpec,
    *,
    all_linear: bool = True,
    in_features: Iterable[int] = (),
    has_fused_experts: bool = False,
    mixed: Mapping[str, QuantizerSpec] | None = None,
    rank: int = 0,
) -> Layout:
    """Return the layout stock tools load where one can hold the codes, else ours.

    Args:
        all_linear: False when a compressed weight belongs to a Conv1D, whose weight is transposed.
        in_features: Input sizes of the compressed layers; one that its group does not divide rules
            compressed-tensors out, whose decoder refuses it.
        has_fused_experts: The decoder of transformers drops the zero points of fused experts, and knows one scheme
            for all of them.
        mixed: Quantizers of layers that have another one, by name.
        rank: Of the adapter beside it.
    """
    grids = [spec.uniform_grid, *(other.uniform_grid for other in (mixed or {}).values())]
    sizes = set(in_features)
    is_uniform = all(grid is not None and all(grid.divides(size) for size in sizes) for grid in grids)
    loses_experts = has_fused_experts and any(mixed or (grid is not None and not grid.is_symmetric) for grid in grids)
    if is_uniform and all_linear and not loses_experts:
        return CompressedTensorsLayout(spec, mixed, rank=rank)
    return SRRLayout(spec, mixed)


def layout_of(quantization_config: Mapping[str, Any], *, file: str) -> Layout:
    """Return the layout an artifact says it was written in.

    Args:
        file: Where the configuration came from, for the message.
    Raises:
        CheckpointError: not one of our artifacts, or written by a later version.
    """
    marker = read_marker(quantization_config, file=file)
    is_stock = marker.quant_method == COMPRESSED_TENSORS
    if is_stock:
        return CompressedTensorsLayout(marker.spec, marker.mixed, rank=marker.rank)
    return SRRLayout(marker.spec, marker.mixed)
