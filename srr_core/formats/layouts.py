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
    spec: QuantizerSpec, *, all_linear: bool = True, in_features: Iterable[int] = (), has_fused_experts: bool = False
) -> Layout:
    """Return the layout stock tools load where one can hold the codes, else ours.

    Args:
        all_linear: False when a compressed weight belongs to a Conv1D, whose weight is transposed.
        in_features: Input sizes of the compressed layers; one that its group does not divide rules
            compressed-tensors out, whose decoder refuses it.
        has_fused_experts: The decoder of transformers drops the zero points of fused experts.
    """
    grid = spec.uniform_grid
    is_uniform = grid is not None and all(grid.divides(size) for size in in_features)
    drops_zero_points = has_fused_experts and grid is not None and not grid.is_symmetric
    if is_uniform and all_linear and not drops_zero_points:
        return CompressedTensorsLayout(spec)
    return SRRLayout(spec)


def layout_of(quantization_config: Mapping[str, Any], *, file: str) -> Layout:
    """Return the layout an artifact says it was written in.

    Args:
        file: Where the configuration came from, for the message.
    Raises:
        CheckpointError: not one of our artifacts, or written by a later version.
    """
    marker = read_marker(quantization_config, file=file)
    is_stock = marker.quant_method == COMPRESSED_TENSORS
    return CompressedTensorsLayout(marker.spec) if is_stock else SRRLayout(marker.spec)
