"""The subcommands of `srr` about a model on disk or on the Hub: inspect, export, doctor."""

import json
import platform
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from examples import CALIBRATION_TEXT
from service.commands.output import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    CommandError,
    duration,
    print_json,
    print_line,
    print_table,
)
from service.hub.client import HubClient
from service.hub.metadata import HuggingFaceMetadata
from srr_core.checkpoint.header import DTYPES, TensorEntry
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.exporters.export import export as run_export
from srr_core.kernels.dispatch import dispatch_table
from srr_core.pipeline import Inspection, estimate_seconds, inspect_model
from srr_core.recipe import EXPORT_FORMATS, ExportSpec, Recipe, parse_assignments
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.compatibility import compatibility
from srr_core.recipe.presets import describe_validation
from srr_core.recipe.verdicts import CompatibilityRow
from srr_core.telling.sizes import bits_words
from worker.commands import naming_both_places

PACKAGES = (
    "torch",
    "transformers",
    "compressed-tensors",
    "peft",
    "safetensors",
    "huggingface_hub",
    "celery",
    "fastapi",
)


def inspect(
    source: str,
    *,
    recipe: Recipe,
    revision: str,
    calibration_text: Path | None,
    hub_token: str | None,
    as_json: bool,
) -> None:
    """Print what compressing a model would mean, from its configuration and headers alone."""
    text = calibration_text or CALIBRATION_TEXT
    text_bytes = text.stat().st_size
    if Path(source).is_dir():
        entries = CheckpointReader(Path(source)).entries
        header_bytes = _header_bytes(entries.values())
        found = inspect_model(Path(source), entries, recipe, text_bytes=text_bytes, calibration_text=text)
    else:
        found, header_bytes = _inspect_hub(source, revision, recipe, hub_token, text_bytes=text_bytes)
    if not found.is_supported:
        raise CommandError(f"{source} cannot be compressed: {found.reason}", exit_code=EXIT_BAD_INPUT)
    seconds = estimate_seconds(found, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rows = compatibility(
        recipe,
        found.shapes,
        architecture=found.architecture,
        rope=found.rope_type,
        all_linear=found.all_linear,
        has_experts=found.has_experts,
    )
    if as_json:
        facts = {key: value for key, value in asdict(found).items() if key != "shapes"}
        facts["header_bytes"] = header_bytes
        print_json({**facts, "seconds": seconds, "compatibility": [row.model_dump(mode="json") for row in rows]})
        return
    _print_inspection(source, recipe, found, seconds)
    print_line(f"read        {size_words(header_bytes)} of headers and no weights")
    _print_compatibility(rows)


def export(artifact: Path, destination: Path, *, target: str, assignments: list[str], as_json: bool) -> None:
    """Convert an artifact and print what its user must know."""
    if target not in EXPORT_FORMATS:
        known = ", ".join(EXPORT_FORMATS)
        raise CommandError(f"--to {target!r} is not an export format; choose one of {known}", exit_code=EXIT_BAD_INPUT)
    try:
        spec: ExportSpec = TypeAdapter(ExportSpec).validate_python({"kind": target, **parse_assignments(assignments)})
    except ValidationError as error:
        raise CommandError(f"invalid export: {describe_validation(error)}", exit_code=EXIT_BAD_INPUT) from error
    try:
        remarks = run_export(artifact, destination, spec)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"this export needs {error.name}: pip install {error.name}", exit_code=EXIT_FAILED
        ) from error
    if as_json:
        print_json({"destination": str(destination), "format": target, "remarks": remarks})
        return
    for remark in remarks:
        print_line(remark)
    print_line(f"written     {destination}")


def doctor(*, as_json: bool) -> None:
    """Print versions, devices and the dispatch table of packed layers."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    # Torch itself knows its build (cpu, cu130), which its distribution does not always say.
    versions = {package: version(package) for package in PACKAGES} | {"torch": str(torch.__version__)}
    paths = dispatch_table()
    if as_json:
        print_json(
            {
                "python": platform.python_version(),
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
                "gpu": device,
                "packages": versions,
                "dispatch": [{"path": name, "serves": serves} for name, serves in paths],
            }
        )
        return
    print_line(f"python      {platform.python_version()} on {platform.machine()}")
    print_line(f"threads     {torch.get_num_threads()}")
    print_line(f"GPU         {device or 'none; everything runs on the CPU'}")
    for package, number in versions.items():
        print_line(f"{package:<20}{number}")
    table = Table("path", "serves", title="Packed layers are computed by the first path that serves them")
    for name, serves in paths:
        table.add_row(name, serves)
    print_table(table)


def _inspect_hub(
    model_id: str, revision: str, recipe: Recipe, token: str | None, *, text_bytes: int
) -> tuple[Inspection, int]:
    metadata = HuggingFaceMetadata(HubClient())
    with naming_both_places(model_id):
        model = metadata.resolve(model_id, revision, token=token)
    weights = metadata.inspect(model, token=token)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(dict(model.config or {})), encoding="utf-8")
        entries = {name: _entry(tensor.dtype, tensor.shape) for name, tensor in weights.tensors.items()}
        return inspect_model(Path(folder), entries, recipe, text_bytes=text_bytes), weights.header_bytes


def _header_bytes(entries: Iterable[TensorEntry]) -> int:
    # A header ends where the first tensor of its file begins.
    first: dict[Path, int] = {}
    for entry in entries:
        first[entry.file] = min(entry.begin, first.get(entry.file, entry.begin))
    return sum(first.values())


def _entry(dtype: str, shape: tuple[int, ...]) -> TensorEntry:
    # Only dtype and shape are known; the place is that of a tensor in a file of its own.
    kind = DTYPES.get(dtype, torch.uint8)
    size = kind.itemsize
    for dimension in shape:
        size *= dimension
    return TensorEntry(Path(), kind, shape, 0, size)


def _print_inspection(source: str, recipe: Recipe, found: Inspection, seconds: float) -> None:
    print_line(
        f"model       {source}: {found.architecture}, {found.num_blocks} blocks, {found.num_layers} layers compressed"
    )
    print_line(f"weights     {found.compressed_weights:,} compressed, {found.kept_weights:,} kept in 16 or 32 bit")
    print_line(f"share       {100 * found.compressed_share:.0f} % of the model's bytes are compressed")
    whole = 8 * found.artifact_bytes / max(found.compressed_weights + found.kept_weights, 1)
    print_line(f"bits        {bits_words(found.bits_per_weight_total, whole)}{_of_what(found, recipe)}")
    print_line(f"size        {size_words(found.source_bytes)} → about {size_words(found.artifact_bytes)}")
    if found.size_note:
        print_line(f"note        {found.size_note}")
    print_line(f"memory      about {size_words(found.memory_bytes)} at the peak of a run")
    place = "the GPU here" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print_line(f"time        about {duration(seconds)} on {place}, evaluation not counted (a rough estimate)")


def _of_what(found: Inspection, recipe: Recipe) -> str:
    """Return what the bits of a layer are made of, or what a search will make of them."""
    if recipe.budget is not None and recipe.budget.target_kl is not None:
        return f" (of the recipe's own grid; a search takes what {recipe.budget.words} needs)"
    if recipe.budget is not None:
        return " (on the mean; a search gives each layer its own)"
    return f" ({found.bits_per_weight_quantized:.2f} without L·R of rank {recipe.rank})" if recipe.rank else ""


def _print_compatibility(rows: tuple[CompatibilityRow, ...]) -> None:
    table = Table("runtime", "loads it", "why", "known from", title="Who can load the result")
    for row in rows:
        table.add_row(row.runtime, row.verdict, row.reason, ": ".join(filter(None, (row.evidence, row.versions))))
    print_table(table)
