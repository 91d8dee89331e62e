"""A checkpoint as the model class sees it: what transformers cuts, joins or turns while loading, done tensor by tensor.

An old file may hold queries, keys and values as one matrix that the class has three layers for. Here it becomes three
tensors by the names of those layers, which are compressed, written and loaded again like any other. The experts of a
mixture are shown one by one wherever loaders join them by themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from srr_core.checkpoint.derived import DerivedEntry, Read, derived
from srr_core.checkpoint.expert_names import expert_name
from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CheckpointError
from srr_core.models.placement import Places
from srr_core.models.stacks import one_by_one


def converted(model: PreTrainedModel, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """Return the tensors of a checkpoint by names that the model takes as they are, wherever that is possible.

    A conversion whose result could not be stored by its own name, because it would be converted again, is left alone.

    Args:
        model: May be on the meta device.
    Raises:
        CheckpointError: the tensors of a conversion do not fit each other.
    """
    places = Places(model)
    groups: dict[str, list[str]] = {}
    for name, placement in places.of_all(entries).items():
        if placement is not None and placement.is_fused and expert_name(name) is None:
            groups.setdefault(placement.parameter, []).append(name)
    result = dict(entries)
    for sources in groups.values():
        made = _made(places, model, {name: entries[name] for name in sources})
        if all(places.takes_as_is(name) for name in made):
            for name in sources:
                del result[name]
            result |= made
    return one_by_one(model, result)


def _made(places: Places, model: PreTrainedModel, sources: Mapping[str, TensorEntry]) -> dict[str, DerivedEntry]:
    """Return the parameters that one conversion makes, with their shapes found on the meta device."""
    first = next(iter(sources.values()))
    shapes = _convert(
        places, model, {name: torch.empty(e.shape, dtype=e.dtype, device="meta") for name, e in sources.items()}
    )
    conversion = _Conversion(places, model, tuple(sources))
    return {
        name: derived(first, tuple(tensor.shape), tensor.dtype, conversion.maker(name))
        for name, tensor in shapes.items()
    }


class _Conversion:
    """One conversion of a model, and what it made last: its results are read one after the other."""

    def __init__(self, places: Places, model: PreTrainedModel, sources: Sequence[str]) -> None:
        self._places, self._model, self._sources = places, model, sources
        self._waiting: dict[str, Tensor] = {}

    def maker(self, parameter: str) -> Any:
        def make(read: Read) -> Tensor:
            if parameter not in self._waiting:
                self._waiting = _convert(self._places, self._model, {name: read(name) for name in self._sources})
            return self._waiting.pop(parameter).contiguous()

        return make


def _convert(places: Places, model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = list(tensors)
    placements = {name: places(name) for name in names}
    first = placements[names[0]]
    if first is None or first.pattern is None:
        raise CheckpointError(f"tensor {names[0]!r} is not made by a conversion")
    converter = places.converter(first.pattern)
    for name in names:
        placement = placements[name]
        converter.add_tensor(first.parameter, name, str(placement and placement.pattern), tensors[name])  # type: ignore[arg-type]  # saving passes tensors too
    try:
        made = converter.convert(first.parameter, model=model, config=model.config)
    except Exception as error:  # operations fail on a stranger's shapes in whatever way they like
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"tensor {names[0]!r} cannot be converted for the model: {reason}") from error
    return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}
