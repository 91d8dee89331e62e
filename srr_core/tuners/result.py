"""A trained checkpoint as what is published: its factors, and its head, on the untouched base it was trained on."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from srr_core.checkpoint.artifact_names import ADAPTER_PREFIX
from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.errors import VerificationError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact_files import ADAPTER_DTYPE
from srr_core.models.layers import Layer
from srr_core.runtime.training import names_in_model
from srr_core.tuners.folders import (
    BASE_DIGEST_KEY,
    HEAD_FILE,
    appearing,
    base_digest,
    empty_of,
    link_files,
    write_head,
)
from srr_core.tuners.kept import kept_folder
from srr_core.tuners.start import FACTS_NAME

_LORA = ".lora_"


def write_tuned(
    start: Path,
    checkpoint: Path,
    destination: Path,
    *,
    digest: str,
    artifact_id: str | None,
    layers: tuple[Layer, ...] = (),
) -> None:
    """Write the base of a start with a trained adapter, and a trained head, in place of those it began with.

    The factors are rounded to bf16 once, as every adapter of ours is stored; the head stays in float32.

    Args:
        start: The folder the training began with.
        checkpoint: One of its checkpoints.
        destination: An empty folder.
        digest: `base_digest` of the start, which goes into the adapter.
        artifact_id: Repository the result will be published as, if any.
        layers: Of a start that is not compressed.
    Raises:
        VerificationError: the base that was written is not the one that was trained on.
        StorageError: the disk is full.
    """
    replaced = {ADAPTER_WEIGHTS, ADAPTER_CONFIG, INDEX_NAME, HEAD_FILE, FACTS_NAME}
    link_files((file for file in sorted(start.iterdir()) if file.name not in replaced), destination)
    write_json(destination / INDEX_NAME, read_json(start / INDEX_NAME))
    head = _write_factors(start, checkpoint, destination, digest=digest, artifact_id=artifact_id)
    if head:
        write_head(destination, head)
    found = base_digest(destination, layers)
    if found != digest:
        raise VerificationError(f"the base that was written has the digest {found}, the one that was trained {digest}")


def write_kept(
    start: Path, checkpoints: Mapping[int, Path], destination: Path, *, digest: str, artifact_id: str | None
) -> None:
    """Write the factors and heads of checkpoints, each into a folder of its own, beside a result.

    Args:
        checkpoints: By the steps done.
        destination: The folder of the result.
        artifact_id: Repository the result will be published as, where that holds the base at its top.
    Raises:
        StorageError: the disk is full.
    """
    for step, checkpoint in checkpoints.items():
        with appearing(kept_folder(destination, step)) as partial:
            head = _write_factors(start, checkpoint, partial, digest=digest, artifact_id=artifact_id)
            if head:
                write_tensors(partial / HEAD_FILE, head, metadata={"format": "pt"})


def _write_factors(
    start: Path, checkpoint: Path, destination: Path, *, digest: str, artifact_id: str | None
) -> dict[str, Tensor]:
    """Write an adapter and its configuration, and return the trained head in float32, which has a file of its own."""
    trained = CheckpointReader(checkpoint, entries=read_header(checkpoint / ADAPTER_WEIGHTS))
    files = read_header(start / ADAPTER_WEIGHTS)
    names = names_in_model(empty_of(start), files, trained)
    factors = {name: trained[names[name]].to(ADAPTER_DTYPE) for name in files}
    metadata = {"format": "pt", BASE_DIGEST_KEY: digest}
    write_tensors(destination / ADAPTER_WEIGHTS, factors, metadata=metadata)
    config = read_json(start / ADAPTER_CONFIG)
    write_json(
        destination / ADAPTER_CONFIG,
        {**config, "base_model_name_or_path": artifact_id, "init_lora_weights": True, "modules_to_save": None},
    )
    return {_plain_name(name): trained[name].to(torch.float32) for name in trained if _LORA not in name}


def _plain_name(trained: str) -> str:
    return trained.removeprefix(ADAPTER_PREFIX)
