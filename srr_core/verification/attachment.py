"""Whether PEFT gives every L·R of an adapter its layer and no other, found out by attaching it without a weight."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from srr_core.checkpoint.artifact_names import factor_names
from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.adapter import AdapterTargets, adapter_config, adapter_names
from srr_core.formats.expert_factors import ExpertPart, fuse_factors
from srr_core.models.architecture import silent_loading


@dataclass(frozen=True)
class Attached:
    """A layer that is to get L·R."""

    path: str
    """Of its module in the model."""
    shape: tuple[int, int]
    """(out, in)"""
    part: ExpertPart | None = None
    """Of an expert."""


Layers = Mapping[str, Attached]
"""By name in the artifact."""


@dataclass(frozen=True)
class _Problem:
    """A tensor of the adapter, or a place for one, that has no partner of its shape."""

    tensor: str
    message: str


def check_attached(model: PreTrainedModel, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Attach an adapter whose tensors are on the meta device to a model, exactly as `from_pretrained` does.

    PEFT (0.21) drops factors of some shared experts without an error, attaches some to a vision tower too and
    forbids modules of some models; this asks it instead of listing those. Takes about a second for the largest
    models, and no memory.

    Args:
        model: Dense, on the meta device. The adapter stays attached to it.
        config: What adapter_config.json holds.
        shapes: Of the adapter's tensors, by their names in its file.
    Raises:
        CheckpointError: PEFT refuses the adapter, or a factor has no place, or a place no factor; the message names it.
    """
    problems = _attach(model, config, shapes)
    if problems:
        raise CheckpointError(problems[0].message)


def find_targets(model: PreTrainedModel, layers: Layers, *, rank: int) -> AdapterTargets:
    """Return how PEFT must be told the layers so that every L·R lands on its layer and on no other.

    PEFT takes some modules for experts of a mixture because of their names; they are named by their weights instead.
    A layer that it attaches in neither way stays without L·R.

    Args:
        model: Dense, on the meta device; not changed.
    """
    by_parameter: set[str] = set()
    bare: set[str] = set()
    while True:
        targets = AdapterTargets(frozenset(by_parameter - bare), frozenset(bare))
        chosen = {name: layer for name, layer in layers.items() if name not in bare}
        failing = _failing(model, chosen, targets, rank) if chosen else set()
        if not failing:
            return targets
        moved = {name for name in failing if name not in by_parameter and layers[name].part is None}
        by_parameter |= moved
        bare |= failing - moved


def _failing(model: PreTrainedModel, layers: Layers, targets: AdapterTargets, rank: int) -> set[str]:
    """Return the layers whose L·R is lost, or is attached elsewhere too."""
    try:
        problems = _attach(copy.deepcopy(model), *_adapter(model, layers, targets, rank))
    except (CheckpointError, ExportError):
        return _refused(model, layers, targets, rank)
    owners: dict[str, set[str]] = {}
    for name, layer in layers.items():
        for tensor in (*adapter_names(name, layer.part), *(factor_names(layer.path) if layer.part is None else ())):
            owners.setdefault(_in_model(tensor), set()).add(name)
    found = set().union(*(owners.get(_in_model(problem.tensor), set()) for problem in problems))
    # A factor that landed on a stranger is named after the stranger; whoever is called alike may be its owner.
    return found if found or not problems else set(layers)


def _refused(model: PreTrainedModel, layers: Layers, targets: AdapterTargets, rank: int) -> set[str]:
    """Return the layers PEFT refuses to touch, found by offering it those of one name at a time."""
    groups: dict[str, dict[str, Attached]] = {}
    for name, layer in layers.items():
        groups.setdefault(layer.part.module if layer.part else name.rpartition(".")[2], {})[name] = layer
    refused: set[str] = set()
    for members in groups.values():
        try:
            _attach(copy.deepcopy(model), *_adapter(model, members, targets, rank))
        except (CheckpointError, ExportError):
            refused |= members.keys()
    return refused or set(layers)


def _adapter(
    model: PreTrainedModel, layers: Layers, targets: AdapterTargets, rank: int
) -> tuple[dict[str, Any], dict[str, Sequence[int]]]:
    """Return the configuration and the shapes of the tensors of an adapter for some of the targeted layers."""
    factors = {}
    for name, layer in layers.items():
        right, left = factor_names(name)
        factors[right] = torch.empty(rank, layer.shape[1], device="meta")
        factors[left] = torch.empty(layer.shape[0], rank, device="meta")
    parts = {name: layer.part for name, layer in layers.items() if layer.part is not None}
    every = [name for name, _ in model.named_modules() if name]
    entries = targets.entries({name: layer.path for name, layer in layers.items()}, every)
    config = adapter_config(rank=rank, base_model=None, task=None, experts=parts.values(), **entries)
    return config, {name: tuple(factor.shape) for name, factor in fuse_factors(factors, factors.__getitem__, parts)}


def _attach(model: PreTrainedModel, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> list[_Problem]:
    factors = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    try:
        with torch.device("meta"), silent_loading(), warnings.catch_warnings():
            # Of Conv1D modules, which are packed by the time they are loaded, and of patterns for experts.
            warnings.simplefilter("ignore")
            info = model.load_adapter(
                peft_config=LoraConfig(**config),  # type: ignore[arg-type]  # transformers annotates a dict and wants this
                adapter_state_dict=factors,
                ignore_mismatched_sizes=True,
            )
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"peft does not attach the adapter: {reason}") from error
    problems = [_Problem(name, f"tensor {name!r} belongs to no layer of the model") for name in info.unexpected_keys]
    problems += [_Problem(name, f"no tensor of the adapter fills {name!r} of the model") for name in info.missing_keys]
    problems += [
        _Problem(name, f"tensor {name!r} has shape {list(found)}, its layer needs {list(wanted)}")
        for name, found, wanted in info.mismatched_keys
    ]
    return [
        _Problem(problem.tensor, problem.message.replace(".default.", "."))
        for problem in sorted(problems, key=lambda problem: problem.tensor)
    ]


def _in_model(tensor: str) -> str:
    return tensor.removeprefix("base_model.model.").replace(".default.", ".")
