"""The correction of one layer of a server: read from an adapter, cut for one of several processes, and applied.

Servers fuse layers that share an input (q, k and v; gate and up) and spread the rows or the columns of the result over
processes. R of fused layers stands as one matrix, so the input is multiplied once; each L reads its own part of the
product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import linear

from srr_core.checkpoint.artifact_names import factor_names


@dataclass(frozen=True)
class Place:
    """Which part of a layer one process holds."""

    part_rows: tuple[int, ...]
    """Outputs of every fused layer that are here."""
    full_rows: tuple[int, ...]
    """The same over all processes, a row that several of them hold counted once."""
    columns: int
    """Inputs that are here."""
    process: int
    num_processes: int


@dataclass(frozen=True)
class Run:
    """Consecutive outputs that are made from the same R."""

    rows: int
    factor: int


@dataclass(frozen=True)
class LowRank:
    """L and R as one process holds them."""

    left: Tensor
    """[outputs, rank]: the L of all fused layers below each other."""
    right: Tensor
    """[number of R · rank, inputs]."""
    runs: tuple[Run, ...]
    """How the rows of `left` belong to the parts of `right`, from the top."""


def read_low_rank(adapter: Mapping[str, Tensor], modules: Sequence[str | None], place: Place) -> LowRank:
    """Return the correction of layers that a server holds as one.

    Args:
        adapter: Tensors of the adapter by name.
        modules: Names of the layers in the adapter, in the order in which the server stacks their outputs. One name
            for several parts is a layer that is fused in the checkpoint already; None is a part without L·R.
    Raises:
        ValueError: sizes of the adapter and of the server's layer do not fit together; the message names the layer.
        KeyError: a layer has no factors.
    """
    named = [module for module in modules if module is not None]
    if len(named) < len(modules):
        return _with_bare(adapter, modules, place)
    return _read(adapter, named, place)


def _with_bare(adapter: Mapping[str, Tensor], modules: Sequence[str | None], place: Place) -> LowRank:
    """Return the correction of fused layers of which some have none: zeros in their rows."""
    if len(modules) != len(place.part_rows):
        raise ValueError(f"{next(filter(None, modules))}: fused with a layer without L·R, in parts of its own")
    kept = [index for index, module in enumerate(modules) if module is not None]
    rows = tuple(place.part_rows[index] for index in kept)
    found = _read(adapter, [str(modules[index]) for index in kept], replace(place, part_rows=rows))
    lefts = iter(torch.split(found.left, list(rows)))
    every = [
        found.left.new_zeros(size, found.left.shape[1]) if module is None else next(lefts)
        for module, size in zip(modules, place.part_rows, strict=True)
    ]
    factors = [kept.index(index) if index in kept else 0 for index in range(len(modules))]
    runs = tuple(Run(size, factor) for size, factor in zip(place.part_rows, factors, strict=True))
    return LowRank(torch.cat(every), found.right, runs)


def _read(adapter: Mapping[str, Tensor], modules: Sequence[str], place: Place) -> LowRank:
    pairs = [tuple(adapter[name] for name in factor_names(module)) for module in modules]
    right = torch.cat([_columns(module, pair[0], place) for module, pair in zip(modules, pairs, strict=True)])
    is_parallel = len(modules) == len(place.part_rows)
    full = tuple(len(left) for _, left in pairs) if is_parallel else place.full_rows
    if sum(full) != sum(len(left) for _, left in pairs):
        raise ValueError(f"{modules[0]}: L has {sum(len(left) for _, left in pairs)} rows, the layer {sum(full)}")
    owners = _owners(modules, [len(left) for _, left in pairs], full)
    rows: list[Tensor] = []
    runs: list[Run] = []
    for part, wanted, (owner, offset) in zip(place.part_rows, full, owners, strict=True):
        begin = offset + _first(modules[owner], wanted, part, place)
        rows.append(pairs[owner][1][begin : begin + part])
        if runs and runs[-1].factor == owner:
            runs[-1] = Run(runs[-1].rows + part, owner)
        else:
            runs.append(Run(part, owner))
    return LowRank(torch.cat(rows), right, tuple(runs))


def apply_low_rank(inputs: Tensor, left: Tensor, right: Tensor, runs: Sequence[Run]) -> Tensor:
    """Return what the correction adds to the output of a layer, [..., outputs]."""
    reduced = linear(inputs, right)
    if len(runs) == 1:
        return linear(reduced, left)
    rank = left.shape[1]
    lefts = torch.split(left, [run.rows for run in runs])
    return torch.cat(
        [
            linear(reduced[..., run.factor * rank : (run.factor + 1) * rank], part)
            for run, part in zip(runs, lefts, strict=True)
        ],
        dim=-1,
    )


def _columns(module: str, right: Tensor, place: Place) -> Tensor:
    begin = _first(module, right.shape[1], place.columns, place)
    return right[:, begin : begin + place.columns]


def _first(module: str, full: int, part: int, place: Place) -> int:
    """Return where the share of a process begins. Neighbouring processes hold the same share where there are few."""
    if part == 0 or full % part or place.num_processes % (full // part):
        raise ValueError(
            f"{module}: {full} rows or columns cannot be held as {part} by {place.num_processes} processes"
        )
    replicas = place.num_processes // (full // part)
    return place.process // replicas * part


def _owners(modules: Sequence[str], lengths: Sequence[int], full: Sequence[int]) -> list[tuple[int, int]]:
    """Return for every part the layer that holds its rows, and where they begin in that layer."""
    ends = list(accumulate(lengths))
    found = []
    for end, rows in zip(accumulate(full), full, strict=True):
        owner = next(index for index, limit in enumerate(ends) if end <= limit)
        offset = end - rows - (ends[owner] - lengths[owner])
        if offset < 0:
            raise ValueError(f"{modules[owner]}: the server cuts its layer across {modules[owner - 1]}")
        found.append((owner, offset))
    return found
