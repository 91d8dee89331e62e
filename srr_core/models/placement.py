"""What a tensor of a checkpoint becomes in a model, by the rules transformers itself loads with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Transpose,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)


@dataclass(frozen=True)
class Placement:
    """What a tensor of a checkpoint becomes."""

    parameter: str
    """Name of the parameter or buffer of the model; of the first one where it becomes several."""
    pattern: str | None = None
    """Of the conversion that makes the parameter, where the tensor is not taken as it is."""
    others: tuple[str, ...] = ()
    """Further parameters cut from the same tensor, as queries, keys and values of one projection are."""

    @property
    def module(self) -> str:
        """Path of the module that has the parameter."""
        return self.parameter.rpartition(".")[0]

    @property
    def is_fused(self) -> bool:
        """True when the parameter is made by a conversion, as the experts of a mixture are."""
        return self.pattern is not None


class Places:
    """Finds the places of tensors in a model.

    Some renamings depend on what was renamed before, so the tensors of one checkpoint are best asked for together.

    Args:
        model: May be on the meta device. Parameters that are replaced later are not noticed.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prefix = model.base_model_prefix
        self._state: dict[str, Any] = dict(model.state_dict())
        self._mapping = get_model_conversion_mapping(model)

    def of_all(self, tensor_names: Iterable[str]) -> dict[str, Placement | None]:
        """Return the place of every tensor of a checkpoint, None where the model has none for it."""
        self._mapping = get_model_conversion_mapping(self._model)
        return {name: self(name) for name in sorted(tensor_names, key=dot_natural_key)}

    def __call__(self, tensor_name: str) -> Placement | None:
        """Return the place of one tensor, or None when the model has none for it."""
        renamed, pattern = rename_source_key(
            tensor_name, self._renamings(), self._converters(), self._prefix, self._state
        )
        if renamed in self._state:
            targets = self._targets(pattern) if pattern is not None else [""]
            others = (renamed.replace(targets[0], target) for target in targets[1:])
            return Placement(renamed, pattern, tuple(other for other in others if other in self._state))
        # As stock does: what has a place by its own name was not meant by the renamings.
        renamed, _ = rename_source_key(tensor_name, [], [], self._prefix, self._state)
        return Placement(renamed) if renamed in self._state else None

    def takes_as_is(self, parameter: str) -> bool:
        """Whether loaders take a tensor by the name of a parameter as it is, when it has the parameter's shape."""
        placement = self(parameter)
        if placement is None or placement.parameter != parameter:
            return False
        if placement.pattern is None:
            return True
        # A matrix that is turned only while it has the other shape is left alone once it has its own.
        operations = self.converter(placement.pattern).operations
        rows, columns = self.shape(parameter)[-2:]
        return rows != columns and all(isinstance(op, Transpose) and op.check_dims for op in operations)

    def reaches(self, tensor_name: str, parameter: str) -> bool:
        """Whether stock loaders take tensors of this name to a parameter, also packed ones, which know no fallback."""
        renamed, _ = rename_source_key(tensor_name, self._renamings(), [], self._prefix, self._state)
        return renamed == parameter

    def renamed(self, name: str) -> str:
        """Return a name as loaders read it, whether the model has a place for it or not."""
        return str(rename_source_key(name, self._renamings(), [])[0])

    def converter(self, pattern: str) -> WeightConverter:
        """Return a conversion by one of its patterns; it has collected nothing and may be used once."""
        entries = get_model_conversion_mapping(self._model)
        return next(e for e in entries if isinstance(e, WeightConverter) and pattern in e.source_patterns)

    def shape(self, parameter: str) -> tuple[int, ...]:
        """Return the shape of a parameter or buffer of the model."""
        return tuple(self._state[parameter].shape)

    def __contains__(self, parameter: str) -> bool:
        return parameter in self._state

    def _targets(self, pattern: str) -> list[str]:
        return next(entry.target_patterns for entry in self._converters() if pattern in entry.source_patterns)

    def _renamings(self) -> list[WeightRenaming]:
        return [entry for entry in self._mapping if isinstance(entry, WeightRenaming)]

    def _converters(self) -> list[WeightConverter]:
        return [entry for entry in self._mapping if isinstance(entry, WeightConverter)]
