"""The use case of a conversion: the folder of an artifact and a format in, a folder with a report beside it out."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from srr_core.checkpoint.artifact_names import CONFIG_FILE
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import write_json
from srr_core.conversion_report import REPORT_NAME, ConversionReport, ConvertedFile, ConvertedModel
from srr_core.errors import StopRequested
from srr_core.exporters.export import export
from srr_core.formats.adapter import ADAPTER_CONFIG
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline.plan import choose_device
from srr_core.pipeline.reporting import environment_of
from srr_core.recipe.exporters import ConversionSpec
from srr_core.recipe.stages import Stage
from srr_core.report import read_report
from srr_core.types import OnProgress, Progress, ShouldStop

_WEIGHTS = (".safetensors", ".gguf")


def convert(
    artifact: Path,
    destination: Path,
    target: ConversionSpec,
    *,
    model_id: str,
    revision: str | None = None,
    result_id: str | None = None,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> ConversionReport:
    """Write an artifact in another format; the destination is complete or absent.

    Args:
        model_id: The artifact's own name.
        result_id: The repository it will lie in: an adapter names it as its base, or loaders would take Q from the
            artifact and L·R from here.
        on_progress: Called before each layer, in this thread; the stage is `convert`.
        should_stop: Asked before each layer.
    Raises:
        DestinationError: the destination exists.
        ExportError: the format cannot hold the artifact; the message says why.
        CheckpointError: the artifact is damaged, or not one of ours.
        StorageError: the disk is full.
        StopRequested: `should_stop` said so.
    """
    began = time.perf_counter()
    weight_bytes = _weight_bytes(artifact)
    watch = _watch(len(open_artifact(artifact).module_names()), on_progress, should_stop)
    remarks = export(artifact, destination, target, on_layer=watch)
    if result_id is not None and (destination / ADAPTER_CONFIG).is_file():
        adapter = read_json(destination / ADAPTER_CONFIG)
        write_json(destination / ADAPTER_CONFIG, {**adapter, "base_model_name_or_path": result_id})
    report = ConversionReport(
        model=ConvertedModel(
            id=model_id,
            sha=revision,
            architecture=next(iter(read_json(artifact / CONFIG_FILE).get("architectures") or ()), ""),
            made_from=_made_from(artifact),
            weight_bytes=weight_bytes,
        ),
        target=target,
        files=tuple(
            ConvertedFile(path=file.relative_to(destination).as_posix(), size_bytes=file.stat().st_size)
            for file in sorted(destination.rglob("*"))
            if file.is_file()
        ),
        weight_bytes=_weight_bytes(destination),
        remarks=remarks,
        environment=environment_of(choose_device("cpu")),
        seconds=round(time.perf_counter() - began, 3),
    )
    (destination / REPORT_NAME).write_text(f"{report.model_dump_json(indent=2)}\n", encoding="utf-8")
    return report


def _watch(total: int, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> Callable[[str], None]:
    seen: set[str] = set()

    def watch(layer: str) -> None:
        if should_stop is not None and should_stop():
            raise StopRequested("the conversion was stopped; nothing of it was kept")
        if on_progress is not None:
            # A format that reads a layer twice is not further the second time.
            on_progress(Progress(Stage.CONVERT, len(seen - {layer}), total))
        seen.add(layer)

    return watch


def _weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.suffix in _WEIGHTS)


def _made_from(artifact: Path) -> str | None:
    try:
        return read_report(json.loads((artifact / "report.json").read_bytes())).source.id
    except (OSError, ValueError):
        return None
