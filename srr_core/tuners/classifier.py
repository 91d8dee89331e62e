"""A language model, or an encoder, as the base of a classifier: its configuration, its names, and what of it is new."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from srr_core.checkpoint.artifact_names import BARE, PATHS
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.stored_forms import read_marker, with_entries
from srr_core.runtime.training import head_modules

_POOLER = ".pooler."


@dataclass(frozen=True)
class Labels:
    """What a classifier tells apart."""

    names: Sequence[str]
    """Empty where it gives a number."""
    padding: int
    """The token its configuration must name, by which models find the last word."""


def classifier_config(config: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
    """Return the config.json of the sequence classifier of the same kind.

    Raises:
        UnsupportedModelError: transformers has none.
    """
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


def has_same_labels(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a config.json is already that of a classifier of the same labels, so that its head can go on."""
    return all(before.get(key) == after[key] for key in ("architectures", "id2label"))


def trained_head(model: PreTrainedModel, names: Iterable[str]) -> tuple[str, ...]:
    """Return the modules that are trained whole: outside the body, and a pooler the source had no weights for."""
    modules = head_modules(model)
    extra = set()
    for name in names:
        if is_in(name, modules):
            continue
        if _POOLER not in name:
            raise CheckpointError(f"no file of the checkpoint holds tensor {name!r} of {type(model).__name__}")
        extra.add(name.partition(_POOLER)[0] + _POOLER.rstrip("."))
    return (*modules, *sorted(extra))


def missing_prefix(model: PreTrainedModel, names: Collection[str]) -> str:
    """Return what a classifier calls its body, where the files are those of a body alone; else nothing."""
    state = model.state_dict()
    prefix = model.base_model_prefix
    is_bare = not any(name in state for name in names) and any(f"{prefix}.{name}" in state for name in names)
    return prefix if is_bare else ""


def in_body(prefix: str, name: str) -> str:
    """Return the name a tensor of a model without its head has in one with a head."""
    return f"{prefix}.{name}" if prefix else name


def with_names(config: Mapping[str, Any], model: PreTrainedModel, head: Sequence[str], prefix: str) -> dict[str, Any]:
    """Return a config.json whose modules have the names of the classifier, and whose head stock loaders leave dense."""
    quantization = config.get("quantization_config")
    if not isinstance(quantization, Mapping):
        return dict(config)
    linear = {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and is_in(name, head)
    }
    known = {name for name, _ in model.named_modules()}
    ignored = {in_body(prefix, name) for name in quantization.get("ignore", ())} & known
    changed: dict[str, Any] = {**quantization, "ignore": sorted(ignored | linear)}
    if "modules" in quantization:
        changed["modules"] = sorted(in_body(prefix, name) for name in quantization["modules"])
    marker = read_marker(quantization, file=CONFIG_NAME)
    entries = {
        BARE: sorted(in_body(prefix, name) for name in marker.bare),
        PATHS: {in_body(prefix, name): in_body(prefix, path) for name, path in marker.paths.items()},
    }
    return {**config, "quantization_config": with_entries(changed, entries)}


def is_in(name: str, modules: Sequence[str]) -> bool:
    """Whether a name is that of one of some modules, or of something inside it."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)
