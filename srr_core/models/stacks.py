"""Experts of a mixture that share one tensor: seen one by one, as matrices that are compressed like any other.

Where loaders make the shared parameter from a tensor for each expert too, a checkpoint is shown in that form, so that
stock tools load the result. Where they do not, each matrix becomes a layer of our own layout.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from srr_core.checkpoint.derived import DerivedEntry, Read, derived
from srr_core.checkpoint.expert_names import FORMS, GATE_UP, NUM_PARTS, UP
from srr_core.checkpoint.header import TensorEntry
from srr_core.models.placement import Places

STACK_DIMENSIONS = 3
"""Experts, rows, columns."""
_PLAIN = {"has_bias": False, "is_transposed": False, "is_concatenated": True, "has_post_expert_norm": False}
"""What transformers says of experts whose gate and up projections lie one above the other, and nothing else."""


def one_by_one(model: PreTrainedModel, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """Return the tensors of a checkpoint with stacked experts cut into tensors that loaders stack again by themselves.

    Args:
        model: May be on the meta device.
    """
    places = Places(model)
    result: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        placement = places(name) if len(entry.shape) == STACK_DIMENSIONS else None
        names = [] if placement is None or placement.is_fused else _names(places, model, placement.parameter)
        if not names:
            result[name] = entry
            continue
        whole = _Whole(name)
        for index in range(entry.shape[0]):
            for part, projection in enumerate(names):
                rows = entry.shape[1] // len(names)
                result[projection.format(index)] = _rows(entry, index, part * rows, (part + 1) * rows, whole)
    return result


def is_stack(entry: TensorEntry, module: nn.Module) -> bool:
    """Whether a parameter of a module holds a matrix for each expert."""
    return len(entry.shape) == STACK_DIMENSIONS and "Expert" in type(module).__name__


def is_transposed(module: nn.Module, hidden_size: int) -> bool:
    """Whether the matrices of a module's stacked parameters are [inputs, outputs].

    transformers says so of most classes. For the others the parameter tells that meets the hidden states: it is turned
    where only the side of its rows has their size.
    """
    stated = getattr(module, "is_transposed", None)
    if stated is not None:
        return bool(stated)
    first = next((getattr(module, leaf) for leaf in (GATE_UP, UP) if hasattr(module, leaf)), None)
    return first is not None and first.shape[1] == hidden_size and first.shape[2] != hidden_size


def _names(places: Places, model: PreTrainedModel, parameter: str) -> list[str]:
    """Return the names, with a place for the number of the expert, that loaders make a stacked parameter from."""
    owner, _, leaf = parameter.rpartition(".")
    module: Any = model.get_submodule(owner)
    if any(getattr(module, flag, None) != value for flag, value in _PLAIN.items()):
        return []
    for form in FORMS.values():
        names = [projection for projection, (fused, _) in form.items() if fused == leaf]
        placements = [places(f"{owner}.0.{projection}.weight") for projection in names]
        found = [place for place in placements if place is not None and place.is_fused and place.parameter == parameter]
        if names and len(found) == NUM_PARTS[leaf]:
            return [f"{owner}.{{}}.{projection}.weight" for projection in names]
    return []


class _Whole:
    """A tensor that is made from others, held while its parts are read one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: Tensor | None = None

    def part(self, read: Read, index: int, begin: int, end: int, *, is_last: bool) -> Tensor:
        whole = read(self._name) if self._held is None else self._held
        self._held = None if is_last else whole
        return whole[index, begin:end].contiguous()


def _rows(entry: TensorEntry, index: int, begin: int, end: int, whole: _Whole) -> TensorEntry:
    experts, rows, columns = entry.shape
    if isinstance(entry, DerivedEntry):
        is_last = index == experts - 1 and end == rows

        def make(read: Read) -> Tensor:
            return whole.part(read, index, begin, end, is_last=is_last)

        return derived(entry, (end - begin, columns), entry.dtype, make)
    row_bytes = columns * entry.dtype.itemsize
    first = entry.begin + (index * rows + begin) * row_bytes
    return TensorEntry(entry.file, entry.dtype, (end - begin, columns), first, first + (end - begin) * row_bytes)
