"""Where a training begins, as a folder that is whole by itself: base, adapter and, for a classifier, its head.

Whatever the start is (16 bit, Q alone, Q + L·R, a published artifact), the training opens the same kind of folder. A
fresh adapter is written like a fitted one, with L = 0, so the first step begins exactly at the base.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import PreTrainedModel

from srr_core.checkpoint.artifact_names import ADAPTER_PREFIX
from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import ShardPlan, copy_tensors, write_json
from srr_core.errors import UnsupportedModelError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.artifact_files import model_class
from srr_core.formats.stored_forms import read_marker
from srr_core.models.architecture import silent_loading
from srr_core.runtime import load
from srr_core.runtime.plain_tensors import fit
from srr_core.runtime.training import attach, head_modules
from srr_core.tuners.classifier import (
    Labels,
    classifier_config,
    has_same_labels,
    in_body,
    is_in,
    missing_prefix,
    trained_head,
    with_names,
)
from srr_core.tuners.folders import (
    HEAD_FILE,
    can_go_on,
    carry_files,
    empty_of,
    is_artifact,
    is_tuned,
    link_files,
    shard_files,
    with_adapter,
    write_head,
)
from srr_core.tuners.fresh_adapter import generator_for, write_fresh_adapter

FACTS_NAME = "start.json"
REPORTS = ("report.json", "recipe.json")
_NO_ADAPTER = ".no-adapter"


class Facts(BaseModel):
    """What the folder of a base says beside its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_fresh: bool
    """Whether it has no L·R, so that an adapter must be made."""
    rank: int
    """Of its own L·R; 0 where there is none."""
    head: tuple[str, ...]
    """Modules that are trained whole."""
    empty: dict[str, tuple[int, ...]]
    """Tensors of the head that no file holds, and their shapes."""


def write_base(source: Path, destination: Path, *, labels: Labels | None) -> Facts:
    """Write a checkpoint or a result of ours as the base of a training, a classifier's place made ready.

    Args:
        destination: An empty folder.
        labels: What is told apart, or None for a language model.
    Raises:
        UnsupportedModelError: transformers has no classifier, or no language model, of this kind.
        CheckpointError: the source is damaged.
    """
    config = read_json(source / CONFIG_NAME)
    weights = CheckpointReader(source, may_have_adapter=can_go_on(source))
    if labels is None:
        _require_language_model(config)
    else:
        config = classifier_config(config, labels)
    write_json(destination / CONFIG_NAME, config)
    carry_files(source, destination, *REPORTS)
    rank = _rank(source, config)
    if labels is None:
        _write_shards(weights, destination)
        if rank:
            link_files([source / ADAPTER_WEIGHTS, source / ADAPTER_CONFIG], destination)
        return Facts(is_fresh=not rank, rank=rank, head=(), empty={})
    model = empty_of(destination, weights)
    prefix = missing_prefix(model, weights)
    entries = {in_body(prefix, name): entry for name, entry in weights.entries.items()}
    modules = head_modules(model)
    is_same = has_same_labels(read_json(source / CONFIG_NAME), config)
    known = {
        name: entry
        for name, entry in entries.items()
        if (is_same if is_in(name, modules) else entry.file.name == HEAD_FILE)
    }
    body = {name: entry for name, entry in entries.items() if name not in known and not is_in(name, modules)}
    found = fit(model, {**body, **known})
    head = trained_head(model, (*known, *found.empty))
    _write_classifier(
        destination,
        {name: entry for name, entry in body.items() if name not in found.unused},
        {name: CheckpointReader(source, entries=known)[name] for name in known},
    )
    write_json(destination / CONFIG_NAME, with_names(config, model, head, prefix))
    if rank:
        _write_renamed_adapter(source, destination, prefix)
    empty = {name: tuple(model.get_parameter(name).shape) for name in found.empty}
    return Facts(is_fresh=not rank, rank=rank, head=head, empty=empty)


def write_start(base: Path, destination: Path, facts: Facts, *, rank: int, seed: int) -> None:
    """Write the start of one training: the base, and what is fresh in it drawn from a seed.

    Args:
        destination: An empty folder.
        rank: Of a fresh adapter.
    Raises:
        StorageError: the disk is full.
    """
    link_files((file for file in sorted(base.iterdir()) if file.name not in {CONFIG_NAME, INDEX_NAME}), destination)
    config = read_json(base / CONFIG_NAME)
    write_json(destination / INDEX_NAME, read_json(base / INDEX_NAME))
    if facts.empty:
        spread = float(config.get("initializer_range") or 0.02)
        known = CheckpointReader(base, may_have_adapter=True)
        kept = {name: known[name] for name, entry in known.entries.items() if entry.file.name == HEAD_FILE}
        fresh = {name: _fresh_tensor(name, shape, spread, seed) for name, shape in facts.empty.items()}
        (destination / HEAD_FILE).unlink(missing_ok=True)  # a second name of the base's own
        write_head(destination, {**kept, **fresh})
    if facts.is_fresh:
        entries = write_fresh_adapter(base, destination, rank=rank, seed=seed, is_classifier=bool(facts.head))
        config = with_adapter(config, entries)
    write_json(destination / CONFIG_NAME, config)
    write_json(destination / FACTS_NAME, {"head": list(facts.head)})


def open_start(folder: Path, *, device: torch.device, dtype: torch.dtype, dropout: float = 0.0) -> PeftModel:
    """Return the model of a start, ready to be trained.

    Raises:
        CheckpointError: the folder is damaged.
    """
    head = read_json(folder / FACTS_NAME)["head"] if (folder / FACTS_NAME).exists() else []
    with silent_loading():
        if is_artifact(folder):
            base = load(folder, adapter=None, trainable=True, dtype=dtype, device=device)
        else:
            base = load_dense(folder, dtype).to(device)  # type: ignore[arg-type]  # transformers wraps `to`
        model = attach(base, folder, trainable=True, dropout=dropout, head=head)
    return model.to(device)


def load_dense(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return a checkpoint that is not compressed, without the adapter that may lie beside it."""
    kind: Any = model_class(read_json(folder / CONFIG_NAME))
    model: PreTrainedModel = kind.from_pretrained(
        folder, dtype=dtype, local_files_only=True, adapter_kwargs={"subfolder": _NO_ADAPTER}
    )
    return model


def _require_language_model(config: Mapping[str, Any]) -> None:
    name = model_class(config).__name__
    if not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise UnsupportedModelError(
            f"{name} does not predict the next token; it can be fine-tuned to classify, or to give a number"
        )


def _write_classifier(destination: Path, body: Mapping[str, TensorEntry], head: Mapping[str, Tensor]) -> None:
    shards = ShardPlan()
    for name, entry in body.items():
        shards.add(name, entry)
    shards.write(destination)
    if head:
        write_head(destination, head)


def _write_renamed_adapter(source: Path, destination: Path, prefix: str) -> None:
    entries = read_header(source / ADAPTER_WEIGHTS)
    renamed = {
        f"{ADAPTER_PREFIX}{in_body(prefix, name.removeprefix(ADAPTER_PREFIX))}": entry
        for name, entry in entries.items()
    }
    copy_tensors(destination / ADAPTER_WEIGHTS, renamed)
    write_json(destination / ADAPTER_CONFIG, {**read_json(source / ADAPTER_CONFIG), "task_type": "SEQ_CLS"})


def _write_shards(weights: CheckpointReader, destination: Path) -> None:
    if (weights.directory / INDEX_NAME).exists():
        link_files([*shard_files(weights.entries), weights.directory / INDEX_NAME], destination)
        return
    shards = ShardPlan()
    for name, entry in weights.entries.items():
        shards.add(name, entry)
    shards.write(destination)


def _fresh_tensor(name: str, shape: tuple[int, ...], spread: float, seed: int) -> Tensor:
    """Return a new tensor of a head: normal weights, no bias, and scales of one, as transformers begins with."""
    if len(shape) > 1:
        return torch.empty(shape).normal_(0.0, spread, generator=generator_for(seed, name))
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)


def _rank(source: Path, config: Mapping[str, Any]) -> int:
    quantization = config.get("quantization_config")
    if isinstance(quantization, Mapping):
        return read_marker(quantization, file=CONFIG_NAME).rank
    return int(read_json(source / ADAPTER_CONFIG)["r"]) if is_tuned(source) else 0
