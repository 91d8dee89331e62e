"""Where a training begins, as a folder that is whole by itself: base, adapter and, for a classifier, its head.

Whatever the start is (16 bit, Q alone, Q + L·R, a published artifact), the training opens the same kind of folder. A
fresh adapter is written like a fitted one, with L = 0, so the first step begins exactly at the base.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import ShardPlan, copy_tensors, write_json, write_tensors
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.formats.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_tensors,
    target_modules,
)
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.artifact_files import ADAPTER_PREFIX, check_layers, empty_model, model_class, read_configuration
from srr_core.formats.expert_factors import fuse_factors
from srr_core.formats.stored_forms import read_marker
from srr_core.models.architecture import silent_loading
from srr_core.runtime import load
from srr_core.runtime.plain_tensors import fit
from srr_core.runtime.training import attach, head_modules
from srr_core.tuners.folders import (
    HEAD_FILE,
    carry_files,
    dense_layers,
    is_artifact,
    link_files,
    shard_files,
    with_rank,
    write_head,
)

FACTS_NAME = "start.json"
REPORTS = ("report.json", "recipe.json")
_POOLER = ".pooler."
_NO_ADAPTER = ".no-adapter"


@dataclass(frozen=True)
class Labels:
    """What a classifier tells apart."""

    names: Sequence[str]
    """Empty where it gives a number."""
    padding: int
    """The token its configuration must name, by which models find the last word."""


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


def write_base(source: Path, destination: Path, *, labels: Labels | None, carried: Iterable[str]) -> Facts:
    """Write a checkpoint or an artifact as the base of a training, a classifier's place made ready.

    Args:
        destination: An empty folder.
        labels: What is told apart, or None for a language model.
        carried: Patterns of the files that belong to the model whatever its weights are.
    Raises:
        UnsupportedModelError: transformers has no classifier, or no language model, of this kind.
        CheckpointError: the source is damaged.
    """
    config = read_json(source / CONFIG_NAME)
    weights = CheckpointReader(source)
    if labels is None:
        _require_language_model(config)
    else:
        config = _classifier_config(config, labels)
    write_json(destination / CONFIG_NAME, config)
    carry_files(source, destination, (*carried, *REPORTS))
    rank = _rank(config)
    if labels is None:
        _write_shards(weights, destination)
        if rank:
            link_files([source / ADAPTER_WEIGHTS, source / ADAPTER_CONFIG], destination)
        return Facts(is_fresh=not rank, rank=rank, head=(), empty={})
    model = _empty(destination, weights)
    prefix = "" if any(name.startswith(f"{model.base_model_prefix}.") for name in weights) else model.base_model_prefix
    entries = {_in_body(prefix, name): entry for name, entry in weights.entries.items()}
    modules = head_modules(model)
    is_same = _same_labels(read_json(source / CONFIG_NAME), config)
    known = {
        name: entry
        for name, entry in entries.items()
        if (is_same if _is_in(name, modules) else entry.file.name == HEAD_FILE)
    }
    body = {name: entry for name, entry in entries.items() if name not in known and not _is_in(name, modules)}
    found = fit(model, {**body, **known})
    head = _head(model, (*known, *found.empty))
    _write_classifier(
        destination,
        {name: entry for name, entry in body.items() if name not in found.unused},
        {name: CheckpointReader(source, entries=known)[name] for name in known},
    )
    write_json(destination / CONFIG_NAME, _with_names(config, model, head, prefix))
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
        known = CheckpointReader(base)
        kept = {name: known[name] for name, entry in known.entries.items() if entry.file.name == HEAD_FILE}
        fresh = {name: _fresh_tensor(name, shape, spread, seed) for name, shape in facts.empty.items()}
        (destination / HEAD_FILE).unlink(missing_ok=True)  # a second name of the base's own
        write_head(destination, {**kept, **fresh})
    if facts.is_fresh:
        _write_fresh_adapter(base, destination, rank=rank, seed=seed, is_classifier=bool(facts.head))
        config = with_rank(config, rank)
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


def _classifier_config(config: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
    kind = str(config.get("model_type"))
    name: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(kind)
    if not isinstance(name, str):
        raise UnsupportedModelError(f"transformers {transformers.__version__} has no sequence classifier for {kind!r}")
    names = list(labels.names) or ["LABEL_0"]
    return {
        **config,
        "architectures": [name],
        "id2label": {str(number): label for number, label in enumerate(names)},
        "label2id": {label: number for number, label in enumerate(names)},
        "problem_type": "single_label_classification" if labels.names else "regression",
        "pad_token_id": labels.padding,
        "tie_word_embeddings": False,
    }


def _same_labels(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(before.get(key) == after[key] for key in ("architectures", "id2label"))


def _empty(folder: Path, weights: CheckpointReader) -> PreTrainedModel:
    configuration = read_configuration(folder)
    if hasattr(configuration, "quantization_config"):
        del configuration.quantization_config
    return empty_model(read_json(folder / CONFIG_NAME), configuration, num_tensors=len(weights))


def _head(model: PreTrainedModel, names: Iterable[str]) -> tuple[str, ...]:
    """Return the modules that are trained whole: outside the body, and a pooler the source had no weights for."""
    modules = head_modules(model)
    extra = set()
    for name in names:
        if _is_in(name, modules):
            continue
        if _POOLER not in name:
            raise CheckpointError(f"no file of the checkpoint holds tensor {name!r} of {type(model).__name__}")
        extra.add(name.partition(_POOLER)[0] + _POOLER.rstrip("."))
    return (*modules, *sorted(extra))


def _in_body(prefix: str, name: str) -> str:
    """Return the name a tensor of a model without its head has in one with a head."""
    return f"{prefix}.{name}" if prefix else name


def _with_names(config: Mapping[str, Any], model: PreTrainedModel, head: Sequence[str], prefix: str) -> dict[str, Any]:
    """Return a config.json whose modules have the names of the classifier, and whose head stock loaders leave dense."""
    quantization = config.get("quantization_config")
    if not isinstance(quantization, Mapping):
        return dict(config)
    linear = {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and _is_in(name, head)
    }
    known = {name for name, _ in model.named_modules()}
    ignored = {_in_body(prefix, name) for name in quantization.get("ignore", ())} & known
    changed: dict[str, Any] = {**quantization, "ignore": sorted(ignored | linear)}
    if "modules" in quantization:
        changed["modules"] = sorted(_in_body(prefix, name) for name in quantization["modules"])
    return {**config, "quantization_config": changed}


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
        f"{ADAPTER_PREFIX}{_in_body(prefix, name.removeprefix(ADAPTER_PREFIX))}": entry
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


def _write_fresh_adapter(base: Path, destination: Path, *, rank: int, seed: int, is_classifier: bool) -> None:
    shapes = _layer_shapes(base)
    factors: dict[str, Tensor] = {}
    for module, (rows, columns) in shapes.items():
        right = _drawn((rank, columns), seed, module).mul_(2).sub_(1).div_(math.sqrt(columns))
        factors |= adapter_tensors(module, torch.zeros(rows, rank), right, rank=rank)
    write_tensors(
        destination / ADAPTER_WEIGHTS,
        dict(fuse_factors(factors, factors.__getitem__)),
        metadata={"format": "pt"},
    )
    config = adapter_config(
        rank=rank,
        target_modules=target_modules(shapes),
        base_model=None,
        task="SEQ_CLS" if is_classifier else "CAUSAL_LM",
        modules=shapes,
    )
    write_json(destination / ADAPTER_CONFIG, config)


def _layer_shapes(base: Path) -> dict[str, tuple[int, int]]:
    if not is_artifact(base):
        return {layer.name: layer.shape for layer in dense_layers(base)}
    marker = read_marker(read_json(base / CONFIG_NAME)["quantization_config"], file=CONFIG_NAME)
    return check_layers(CheckpointReader(base), marker.codec())


def _fresh_tensor(name: str, shape: tuple[int, ...], spread: float, seed: int) -> Tensor:
    """Return a new tensor of a head: normal weights, no bias, and scales of one, as transformers begins with."""
    if len(shape) > 1:
        return torch.empty(shape).normal_(0.0, spread, generator=_generator(seed, name))
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)


def _drawn(shape: tuple[int, int], seed: int, name: str) -> Tensor:
    return torch.rand(shape, generator=_generator(seed, name))


def _generator(seed: int, name: str) -> torch.Generator:
    # From the name, so that the order of modules does not matter.
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _rank(config: Mapping[str, Any]) -> int:
    quantization = config.get("quantization_config")
    return read_marker(quantization, file=CONFIG_NAME).rank if isinstance(quantization, Mapping) else 0


def _is_in(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
