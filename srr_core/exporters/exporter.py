"""The port every export fulfils, and the frame around it: a destination that is complete or absent."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from srr_core.checkpoint.carried_files import copy_carried, is_legal
from srr_core.checkpoint.index import INDEX_NAME
from srr_core.checkpoint.writer import require_free, write_json, write_tensors
from srr_core.errors import StorageError
from srr_core.exporters.card import CARD_FILE, ExportCard, write_card
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import CONFIG_NAME, Artifact, open_artifact
from srr_core.recipe import Spec
from srr_core.verification.reload import check_complete

SpecT = TypeVar("SpecT", bound=Spec)

SHARD_BYTES = 2_000_000_000
"""Of a dense or repacked shard; one shard is in memory at a time."""
_OWN_FILES = frozenset({CONFIG_NAME, INDEX_NAME, ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD_FILE, ".gitattributes"})


class Exporter(ABC, Generic[SpecT]):
    """Writes an artifact in another format, as one specification says."""

    def __init__(self, spec: SpecT) -> None:
        self.spec = spec

    @abstractmethod
    def write(self, artifact: Artifact, destination: Path) -> tuple[str, ...]:
        """Write every file into an empty folder.

        Returns:
            What a user must know: weights that were rounded, files to use together.

        Raises:
            ExportError: the format cannot hold the artifact exactly; the message says why.
            CheckpointError: the artifact is damaged.
        """

    @abstractmethod
    def cards(self, artifact: Artifact) -> tuple[ExportCard, ...]:
        """Return what the card of every folder that was written says."""


def export_with(
    exporter: Exporter[Any], artifact: Path, destination: Path, *, on_layer: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Open an artifact and export it; after a failure the destination does not exist.

    Args:
        on_layer: As `Artifact.on_layer`: some formats read a layer twice.
    Raises:
        DestinationError: the destination exists.
        StorageError: it cannot be written.
        ExportError, CheckpointError: see `Exporter.write`.
    """
    require_free(destination)
    opened = replace(open_artifact(artifact), on_layer=on_layer)
    check_complete(opened)
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        notes = exporter.write(opened, partial)
        for card in exporter.cards(opened):
            write_card(opened, partial, card, notes)
        partial.rename(destination)
    except OSError as error:
        raise StorageError(f"{destination} could not be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return notes


def write_shards(destination: Path, tensors: Iterable[tuple[str, Tensor]], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors as they come into shards with an index. Raises StorageError."""
    weight_map: dict[str, str] = {}
    total = 0
    shards: list[list[str]] = []
    for number, shard in enumerate(_cut(tensors, shard_bytes), start=1):
        write_tensors(destination / _part(number), shard, metadata={"format": "pt"})
        total += sum(tensor.nbytes for tensor in shard.values())
        shards.append(list(shard))
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        (destination / _part(number)).rename(destination / file)
        weight_map.update(dict.fromkeys(names, file))
    write_json(destination / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


def carry_files(artifact: Artifact, destination: Path) -> None:
    """Copy what belongs to the model, and the reports: whatever is not weights or ours to write."""
    copy_carried(artifact.directory, destination)
    for file in sorted(artifact.directory.iterdir()):
        if file.is_file() and file.suffix != ".safetensors" and file.name not in _OWN_FILES:
            shutil.copyfile(file, destination / file.name)


def carry_licence(artifact: Artifact, destination: Path) -> None:
    """Copy the licence and what belongs to it, for formats that take nothing else along."""
    for file in sorted(artifact.directory.iterdir()):
        if file.is_file() and is_legal(file.name):
            shutil.copyfile(file, destination / file.name)


def write_config(artifact: Artifact, destination: Path, changes: Mapping[str, Any]) -> None:
    """Write config.json with some entries replaced; None removes one."""
    config = {**artifact.config, **changes}
    write_json(destination / CONFIG_NAME, {key: value for key, value in config.items() if value is not None})


def _cut(tensors: Iterable[tuple[str, Tensor]], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors:
        if shard and held + tensor.nbytes > shard_bytes:
            yield shard
            shard, held = {}, 0
        shard[name] = tensor
        held += tensor.nbytes
    if shard:
        yield shard


def _part(number: int) -> str:
    return f"part-{number:05d}.safetensors"
