"""What blocks hand on beside hidden states: router choices, residuals, states of a recurrence.

While the arguments of the blocks are recorded no block runs, so each returns stand-ins for these values. Where a
stand-in comes back as an argument of a later block, the real value is put in its place when that block runs. A
stand-in holds NaN or an impossible number: a model that computes with it between its blocks gives itself away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from srr_core.errors import UnsupportedModelError


@dataclass(frozen=True)
class Handed:
    """In recorded arguments: what an earlier block returned at a position behind its hidden states."""

    block: int
    position: int


@dataclass(frozen=True)
class ReturnForm:
    """What one class of blocks returns: hidden states alone, or a sequence that begins with them."""

    kind: type | None
    """tuple or list; None for hidden states alone."""
    extras: tuple[Any, ...] = ()
    """What followed the hidden states in the trial that this was learned from."""

    @staticmethod
    def of(output: Any) -> "ReturnForm":
        """Return the form of an output of a block.

        Raises:
            UnsupportedModelError: it does not begin with hidden states.
        """
        if isinstance(output, Tensor):
            return ReturnForm(None)
        if type(output) in (tuple, list) and output and isinstance(output[0], Tensor):
            return ReturnForm(type(output), tuple(output[1:]))
        raise UnsupportedModelError(f"its blocks return a {type(output).__name__}, not hidden states")

    def wrap(self, hidden: Tensor, extras: tuple[Any, ...]) -> Any:
        """Return hidden states the way the block does."""
        return hidden if self.kind is None else self.kind((hidden, *extras))


@dataclass
class StandIns:
    """The stand-ins of one recording, by which they are known again in arguments."""

    _known: dict[int, Handed] = field(default_factory=dict)
    _held: list[Tensor] = field(default_factory=list)
    """So that no other tensor takes the identity of one."""

    @property
    def is_used(self) -> bool:
        """Whether any was made."""
        return bool(self._known)

    def extras(self, block: int, form: ReturnForm) -> tuple[Any, ...]:
        """Return stand-ins for what a block returns beside its hidden states."""
        return tuple(self._stand_in(value, Handed(block, place)) for place, value in enumerate(form.extras))

    def marked(self, value: Any) -> Any:
        """Return arguments with every stand-in replaced by what it stands for.

        Raises:
            UnsupportedModelError: an argument was computed from a stand-in.
        """
        if isinstance(value, Tensor):
            found = self._known.get(id(value))
            if found is None and self._known and is_tainted(value):
                raise UnsupportedModelError(
                    "it computes between its blocks with what they return beside hidden states, so they cannot be run "
                    "one at a time"
                )
            return value if found is None else found
        return _mapped(self.marked, value)

    def _stand_in(self, value: Any, place: Handed) -> Any:
        if not isinstance(value, Tensor):
            if _tensors(value):
                raise UnsupportedModelError("its blocks return nested values beside hidden states")
            return value
        made = _impossible(value)
        self._known[id(made)] = place
        self._held.append(made)
        return made


def filled(value: Any, results: Mapping[Handed, Any]) -> Any:
    """Return arguments with the real values in the places of `Handed`."""
    if isinstance(value, Handed):
        return results[value]
    return _mapped(lambda item: filled(item, results), value)


def wanted(value: Any) -> set[Handed]:
    """Return everything that arguments ask of earlier blocks."""
    if isinstance(value, Handed):
        return {value}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return set().union(*map(wanted, items))


def _mapped(change: Any, value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(change(item) for item in value)
    if type(value) is dict:
        return {key: change(item) for key, item in value.items()}
    return value


def _tensors(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    return isinstance(value, tuple | list) and any(map(_tensors, value))


def _impossible(value: Tensor) -> Tensor:
    if value.is_floating_point() or value.is_complex():
        return torch.full_like(value, torch.nan)
    return torch.full_like(value, True if value.dtype == torch.bool else torch.iinfo(value.dtype).max)


def is_tainted(value: Tensor) -> bool:
    """Whether a tensor was computed from a stand-in, or holds NaN for another reason."""
    return value.is_floating_point() and not value.is_meta and bool(torch.isnan(value).any())
