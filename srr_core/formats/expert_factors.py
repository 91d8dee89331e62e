"""Factors of experts in the form transformers 5 holds them: fused over all experts of a layer.

transformers fuses `experts.N.gate_proj` and `up_proj` into one parameter `gate_up_proj` [E, 2·I, H], and
`down_proj` into another. PEFT's adapter for such a parameter has rank E·P·r, where P is 2 or 1 parts:

    lora_A  [E·P·r, in]      row    e·P·r + p·r + k
    lora_B  [P·out, P·r·E]   column (p·r + k)·E + e, zero outside the part's own rows

PEFT can fuse per-expert tensors itself, but not (0.21) while transformers decompresses the base in the same call.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from srr_core.checkpoint.expert_names import FORMS, GATE_UP, NUM_PARTS, RENAMED, UP, expert_name
from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.checked import ReadTensor

_INNER = frozenset({GATE_UP, UP})
"""PEFT wraps the module once per parameter; these are wrapped first and so become `base_layer` of the other."""


@dataclass(frozen=True)
class ExpertPart:
    """One projection of one expert: where its factors lie in the fused adapter."""

    module: str
    """Path of the fused module in the model."""
    index: int
    parameter: str
    part: int
    parts: int

    def names(self) -> tuple[str, str]:
        """Return the names of the fused R and L in the adapter file."""
        inner = ".base_layer" if self.parameter in _INNER else ""
        return (
            f"base_model.model.{self.module}{inner}.lora_A.weight",
            f"base_model.model.{self.module}{inner}.lora_B.weight",
        )


def expert_parts(module_names: Iterable[str], paths: Mapping[str, str] | None = None) -> dict[str, ExpertPart]:
    """Return where the factors of experts lie, by the experts' names; other layers are left out.

    Args:
        module_names: All that belong together: the projections of a mixture tell how they are fused.
        paths: Of mixtures by their names on disk, where the model calls them otherwise than stock mixtures do.
    Raises:
        ExportError: experts whose projections have names we do not know.
    """
    experts = {name: found for name in module_names if (found := expert_name(name)) is not None}
    projections: dict[str, set[str]] = defaultdict(set)
    for found in experts.values():
        projections[found.owner].add(found.projection)
    forms = {owner: _form(owner, names) for owner, names in projections.items()}
    parts = {}
    for name, found in experts.items():
        parameter, part = forms[found.owner][found.projection]
        module = (paths or {}).get(found.owner, found.owner.replace(*RENAMED))
        parts[name] = ExpertPart(module, found.index, parameter, part, NUM_PARTS[parameter])
    return parts


def _form(owner: str, projections: set[str]) -> Mapping[str, tuple[str, int]]:
    form = next((form for names, form in FORMS.items() if projections == set(names)), None)
    if form is None:
        raise ExportError(
            f"the experts of {owner} have projections of an unknown kind: {', '.join(sorted(projections))}"
        )
    return form


def fuse_factors(
    names: Iterable[str], read: ReadTensor, parts: Mapping[str, ExpertPart]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an adapter with those of experts fused, one fused parameter in memory at a time.

    Args:
        names: Tensors of the adapter, those of experts under per-expert names.
        parts: Of the experts among the layers.
    Raises:
        CheckpointError: an expert of a layer has no factors.
        ExportError: the experts of a mixture are of several widths.
    """
    groups: dict[tuple[str, str], dict[tuple[int, int], str]] = defaultdict(dict)
    first: dict[tuple[str, str], ExpertPart] = {}
    for name in names:
        part = parts.get(name.removeprefix("base_model.model.").rpartition(".lora_")[0])
        if part is None:
            yield name, read(name)
            continue
        if name.endswith(".lora_A.weight"):
            key = (part.module, part.parameter)
            groups[key][(part.index, part.part)] = name
            first[key] = part
    for key, members in groups.items():
        yield from _fused(first[key], members, read)


def _fused(part: ExpertPart, members: dict[tuple[int, int], str], read: ReadTensor) -> Iterator[tuple[str, Tensor]]:
    experts = max(index for index, _ in members) + 1
    for index in range(experts):
        for number in range(part.parts):
            if (index, number) not in members:
                raise CheckpointError(f"expert {index} of {part.module} has no factors for {part.parameter}")
    name_right, name_left = part.names()
    rights = [read(members[index, number]) for index in range(experts) for number in range(part.parts)]
    if len({right.shape for right in rights}) > 1:
        raise ExportError(f"the experts of {part.module} are of several widths, which one adapter tensor cannot hold")
    yield name_right, torch.cat(rights)
    rank, rows = rights[0].shape[0], None
    fused: Tensor | None = None
    for (index, number), name in sorted(members.items()):
        left = read(name.replace(".lora_A.", ".lora_B."))
        rows = left.shape[0]
        if fused is None:
            fused = left.new_zeros(part.parts * rows, part.parts * rank, experts)
        fused[number * rows : (number + 1) * rows, number * rank : (number + 1) * rank, index] = left
    if fused is not None:
        yield name_left, fused.reshape(fused.shape[0], -1)


def expert_factors(
    part: ExpertPart, read: ReadTensor, *, rank: int, shape: tuple[int, int]
) -> tuple[Shaped[Tensor, "out r"], Shaped[Tensor, "r in"]]:
    """Return (L, R) of one expert's projection out of the fused tensors.

    Raises:
        CheckpointError: a fused tensor has a shape that does not fit.
    """
    name_right, name_left = part.names()
    right, left = read(name_right), read(name_left)
    width = part.parts * rank
    experts = right.shape[0] // width
    wanted = ((experts * width, shape[1]), (part.parts * shape[0], width * experts))
    if part.index >= experts or (tuple(right.shape), tuple(left.shape)) != wanted:
        raise CheckpointError(f"tensor {name_right} or {name_left} has a shape that does not fit the experts")
    start = part.index * width + part.part * rank
    own_rows = slice(part.part * shape[0], (part.part + 1) * shape[0])
    own_ranks = slice(part.part * rank, (part.part + 1) * rank)
    spread = left.reshape(left.shape[0], width, experts)
    return spread[own_rows, own_ranks, part.index].contiguous(), right[start : start + rank]


def expert_targets(parts: Iterable[ExpertPart], *, rank: int) -> dict[str, Any]:
    """Return the entries of adapter_config.json that attach the factors of experts; none where there are none."""
    members = list(parts)
    if not members:
        return {}
    owners = {f"{part.module.split('.')[-2]}.experts.{part.parameter}" for part in members}
    wide = {rf".*\.{part.parameter}": part.parts * rank for part in members if part.parts > 1}
    return {"target_parameters": sorted(owners), "rank_pattern": wide, "alpha_pattern": dict(wide)}
