"""What the folders of a fine-tuning have in common: linked files, split indices, and the digest of a base."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from srr_core.checkpoint.artifact_names import ADAPTER_FILE
from srr_core.checkpoint.carried_files import carried_in
from srr_core.checkpoint.expert_names import expert_name
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import tensor_bytes, write_json, write_tensors
from srr_core.errors import CheckpointError, StorageError
from srr_core.formats.artifact import CONFIG_NAME, open_artifact
from srr_core.formats.artifact_files import empty_model, read_configuration
from srr_core.formats.expert_factors import ExpertPart, expert_parts
from srr_core.formats.stored_forms import is_ours, with_entries
from srr_core.models.architecture import Architecture
from srr_core.models.layers import Layer, plan_layers
from srr_core.verification.digest import layer_digest

_FROM_BLOCK = re.compile(r"(?:^|\.)([^.]+\.\d+\..+)$")
HEAD_FILE = "model-head.safetensors"
"""The modules of a classifier that are trained whole, in a file of their own beside the frozen shards."""
BASE_DIGEST_KEY = "base_sha256"
"""Of the metadata of adapter_model.safetensors, where a fine-tuning of ours has written it."""


def from_block(module: str) -> str:
    """Return the path of a module from its block list on: the same whatever class the model is loaded as."""
    match = _FROM_BLOCK.search(module)
    return match.group(1) if match else module


def is_artifact(folder: Path) -> bool:
    """Whether a checkpoint folder is an artifact of ours. Raises CheckpointError."""
    stated = read_json(folder / CONFIG_NAME).get("quantization_config")
    return isinstance(stated, Mapping) and is_ours(stated)


def is_tuned(folder: Path) -> bool:
    """Whether a folder is a 16-bit model with the adapter beside it that a fine-tuning of ours left.

    Raises:
        CheckpointError: config.json or the adapter is damaged.
    """
    file = folder / ADAPTER_FILE
    if is_artifact(folder) or not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as opened:
            return BASE_DIGEST_KEY in (opened.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{ADAPTER_FILE}: not a safetensors file: {error}") from error


def can_go_on(folder: Path) -> bool:
    """Whether a folder is a result of ours that can go on learning. Raises as `is_tuned` does."""
    return is_artifact(folder) or is_tuned(folder)


def empty_of(folder: Path, weights: CheckpointReader | None = None) -> PreTrainedModel:
    """Return the dense model of a folder on the meta device, without weights.

    Args:
        weights: Those it will have; by default those of the folder.
    Raises:
        CheckpointError: its class cannot be built.
    """
    tensors = CheckpointReader(folder, may_have_adapter=True) if weights is None else weights
    configuration = read_configuration(folder)
    if hasattr(configuration, "quantization_config"):
        del configuration.quantization_config
    return empty_model(read_json(folder / CONFIG_NAME), configuration, num_tensors=len(tensors))


def dense_layers(folder: Path) -> tuple[Layer, ...]:
    """Return the weights of a 16-bit checkpoint that a recipe would compress; the same ones get adapters.

    Raises:
        CheckpointError, UnsupportedModelError: see `plan_layers`.
    """
    return plan_layers(Architecture(folder), CheckpointReader(folder, may_have_adapter=True).entries).layers


def mixture_parts(layers: Iterable[Layer]) -> dict[str, ExpertPart]:
    """Return where the factors of every expert lie. Raises ExportError for projections of an unknown kind."""
    listed = list(layers)
    owners = {
        found.owner: layer.expert.adapter_name
        for layer in listed
        if layer.expert is not None and (found := expert_name(layer.name)) is not None
    }
    return expert_parts((layer.name for layer in listed), owners)


def base_digest(folder: Path, layers: Iterable[Layer] = ()) -> str:
    """Return a SHA-256 of what an adapter stands on: codes and scales of every compressed layer, bit for bit.

    Args:
        layers: Of a checkpoint that is not compressed, whose weights are taken as they are stored.
    Raises:
        CheckpointError: the folder is damaged.
    """
    digest = hashlib.sha256()
    if is_artifact(folder):
        artifact = open_artifact(folder)
        for name in sorted(artifact.module_names()):
            quantized = artifact.layout.read_layer(name, artifact.weights.__getitem__)
            digest.update(f"{from_block(name)} {layer_digest(quantized, None, None)}\n".encode())
        return digest.hexdigest()
    weights = CheckpointReader(folder, may_have_adapter=True)
    for layer in sorted(layers, key=lambda layer: layer.name):
        tensor = weights[layer.tensor]
        digest.update(f"{from_block(layer.name)} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def link_files(files: Iterable[Path], destination: Path) -> None:
    """Give files, and all in folders, a second name in a folder, or copy them where that cannot be.

    Raises:
        StorageError: the disk is full.
    """
    for file in files:
        if file.is_dir():
            (destination / file.name).mkdir()
            link_files(sorted(file.iterdir()), destination / file.name)
        else:
            _link(file, destination / file.name)


def carry_files(source: Path, destination: Path, *others: str) -> None:
    """Link the files of a folder that belong to its model beside the weights, and those of these names it has."""
    for name in (*carried_in(source), *(name for name in others if (source / name).is_file())):
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        _link(source / name, destination / name)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:
        try:
            shutil.copyfile(file, target)
        except OSError as error:
            raise StorageError(f"{file.name} could not be copied: {error.strerror}") from error


def write_head(destination: Path, head: Mapping[str, Tensor]) -> None:
    """Write the trained modules of a classifier in float32, and add them to the index. Raises StorageError."""
    write_tensors(
        destination / HEAD_FILE,
        {name: tensor.detach().to(torch.float32) for name, tensor in head.items()},
        metadata={"format": "pt"},
    )
    index = read_json(destination / INDEX_NAME)
    frozen = {name: file for name, file in index["weight_map"].items() if file != HEAD_FILE}
    write_json(destination / INDEX_NAME, {**index, "weight_map": {**frozen, **dict.fromkeys(head, HEAD_FILE)}})


def shard_files(entries: Mapping[str, TensorEntry]) -> list[Path]:
    """Return the files that hold tensors, without that of the head."""
    return sorted({entry.file for entry in entries.values() if entry.file.name != HEAD_FILE})


def with_adapter(config: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json whose artifact says what its adapter is; one without quantization as it is."""
    quantization = config.get("quantization_config")
    if not isinstance(quantization, Mapping):
        return dict(config)
    return {**config, "quantization_config": with_entries(quantization, entries)}


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that appears under its name when the block ends well; what was there before goes.

    Raises:
        StorageError: the disk is full or the parent cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder.name} could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
