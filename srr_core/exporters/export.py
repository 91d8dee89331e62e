"""The table of exports, and the one call that runs one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from srr_core.exporters.exporter import Exporter, export_with
from srr_core.exporters.gguf_format import GGUFExporter
from srr_core.exporters.gptq_format import GPTQFormatExporter
from srr_core.exporters.merged import MergedExporter
from srr_core.exporters.separate import SeparateAdapterExporter
from srr_core.recipe import AdapterSpec, ExportSpec, GGUFSpec, GPTQFormatSpec, MergedSpec
from srr_core.registry import Registry

EXPORTERS: Registry[Exporter[Any]] = Registry(
    "exporter",
    {
        MergedSpec: MergedExporter,
        AdapterSpec: SeparateAdapterExporter,
        GPTQFormatSpec: GPTQFormatExporter,
        GGUFSpec: GGUFExporter,
    },
)


def export(
    artifact: Path, destination: Path, target: ExportSpec, *, on_layer: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Convert an artifact; the destination is complete or absent.

    Args:
        on_layer: Called with the name of a layer before it is read; may raise, to stop.
    Returns:
        What a user must know about the result, one sentence each.

    Raises:
        DestinationError: the destination exists.
        ExportError: the format cannot hold the artifact exactly; the message says why.
        CheckpointError: the artifact is damaged, or not one of ours.
        StorageError: the disk is full.
    """
    return export_with(EXPORTERS.build(target), artifact, destination, on_layer=on_layer)
