"""Tensors that no file holds as such: computed from those of files when they are read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from srr_core.checkpoint.header import TensorEntry

Read = Callable[[str], Tensor]
"""Returns a tensor of the files by its name."""


@dataclass(frozen=True)
class DerivedEntry(TensorEntry):
    """A tensor with a recipe in place of a place; `file` is where most of it comes from, for messages."""

    make: Callable[[Read], Tensor]
    """Returns the tensor, given a way to read those of the files."""

    @property
    def num_bytes(self) -> int:
        """Size of the tensor's data, as it will be once it is made."""
        return math.prod(self.shape) * self.dtype.itemsize


def derived(
    source: TensorEntry, shape: tuple[int, ...], dtype: torch.dtype, make: Callable[[Read], Tensor]
) -> DerivedEntry:
    """Return the entry of a tensor that is made from others.

    Args:
        source: The entry its file is taken from.
    """
    return DerivedEntry(source.file, dtype, shape, 0, 0, make)


def raw_entries(entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """Return those of the entries that lie in files."""
    return {name: entry for name, entry in entries.items() if not isinstance(entry, DerivedEntry)}
