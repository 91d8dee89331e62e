"""Tensors that are not packed: each has the shape of its place in the model, and no place stays without a tensor.

transformers fills a place that no file has a tensor for with random numbers, and prints a report; `load` refuses.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from srr_core.checkpoint.expert_names import expert_name, stacked_part
from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CheckpointError
from srr_core.formats.artifact_files import packed_modules
from srr_core.models.placement import Placement, Places
from srr_core.runtime.integration import match_modules


@dataclass(frozen=True)
class Fit:
    """How the tensors of files fit the places of a model."""

    empty: tuple[str, ...]
    """Places no tensor fills, by their names in the model; those that may stay so are left out."""
    unused: tuple[str, ...]
    """Tensors the model has no place for, by their names in the files."""


def require_complete(model: PreTrainedModel, entries: Mapping[str, TensorEntry]) -> None:
    """Compare a dense model on the meta device with the tensors of an artifact, or of a source.

    Raises:
        CheckpointError: a tensor has another shape or kind than its place, or a place has no tensor.
    """
    for name in fit(model, entries).empty:
        where = f"of {type(model).__name__}{_behind(name, entries)}"
        raise CheckpointError(f"no file of the checkpoint holds tensor {name!r} {where}")


def fit(model: PreTrainedModel, entries: Mapping[str, TensorEntry]) -> Fit:
    """Return which places of a dense model on the meta device stay empty, and which tensors have none.

    Raises:
        CheckpointError: a tensor has another shape or kind than its place.
    """
    modules = packed_modules(entries)
    packed = match_modules(model, modules)
    # The model knows experts by the names of their dense weights alone.
    dense = {f"{module}.weight" for module in modules if expert_name(module) is not None}
    state = model.state_dict()
    filled = {name for name in state if name.rpartition(".")[0] in packed and not name.endswith(".bias")}
    filled |= {part.parameter for part in map(stacked_part, modules) if part is not None}
    experts: dict[str, list[str]] = defaultdict(list)
    parts = {f"{module}." for module in modules}
    unused = []
    for name, placement in Places(model).of_all({*entries, *dense}).items():
        if placement is None:
            if f"{name.rpartition('.')[0]}." not in parts:
                unused.append(name)
            continue
        if placement.is_fused and expert_name(name):
            experts[placement.parameter].append(name)
        if placement.parameter not in filled:
            filled |= {placement.parameter, *placement.others}
            _check_plain(entries.get(name), name, placement, state[placement.parameter])
    for place, names in experts.items():
        _check_experts(state[place].shape, names, {name: entries[name] for name in names if name not in dense})
    for target, source in model.all_tied_weights_keys.items():
        if source in filled or target in filled:
            filled |= {source, target}
    optional = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_missing or ()]  # noqa: SLF001  # transformers has no public name for it
    empty = (name for name in state if name not in filled and not any(pattern.search(name) for pattern in optional))
    return Fit(tuple(empty), tuple(unused))


def _behind(name: str, entries: Collection[str]) -> str:
    """Return what to do about a tensor that is there behind a prefix, or an empty string."""
    path, _, leaf = name.rpartition(".")
    if f"{path}.base_layer.{leaf}" in entries:
        return (
            f"; it holds '{path}.base_layer.{leaf}': a LoRA was saved inside the model; merge it (merge_and_unload) "
            "and save the model again"
        )
    found = next((entry for entry in entries if entry.endswith(f".{name}")), None)
    if found is None:
        return ""
    prefix = found.removesuffix(name)
    return (
        f"; it holds {found!r}: a wrapper, such as torch.compile's, left the prefix {prefix!r}, so save the model that "
        "is inside it"
    )


def _check_plain(entry: TensorEntry | None, name: str, placement: Placement, parameter: Tensor) -> None:
    if entry is not None and not placement.is_fused:
        _check_fit(entry, name, parameter.shape, is_float=parameter.is_floating_point())


def _check_experts(shape: Sequence[int], names: Sequence[str], entries: Mapping[str, TensorEntry]) -> None:
    """Check that every expert has every projection that a fused parameter [experts, rows, columns] is made from.

    Args:
        names: Of their weights, packed or not.
        entries: Of those that are not packed.
    """
    if len(shape) != 3:  # experts, rows, columns; others are biases
        return
    parts = [part for part in map(expert_name, names) if part is not None]
    projections = sorted({part.projection for part in parts})
    present = frozenset(names)
    for index in range(shape[0]):
        for projection in projections:
            name = f"{parts[0].owner}.{index}.{projection}"
            if name not in present:
                raise CheckpointError(f"no file of the checkpoint holds tensor {name!r}")
            entry = entries.get(name)
            if entry is not None:
                _check_fit(entry, name, (shape[1] // len(projections), shape[2]), is_float=True)


def _check_fit(entry: TensorEntry, name: str, shape: Sequence[int], *, is_float: bool) -> None:
    if entry.shape != tuple(shape):
        raise CheckpointError(
            f"{entry.file.name}: tensor {name!r} has shape {list(entry.shape)}, the model needs {list(shape)}"
        )
    if entry.dtype.is_floating_point != is_float:
        raise CheckpointError(f"{entry.file.name}: tensor {name!r} has dtype {entry.dtype}, which the model cannot use")
