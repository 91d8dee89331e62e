"""Which weights of a checkpoint are compressed, which are kept, and why."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn
from transformers.pytorch_utils import Conv1D

from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.models.architecture import Architecture

ROUTER_NAMES = frozenset({"gate", "router", "shared_expert_gate"})
FLOAT_BYTES = frozenset({2, 4, 8})
STACKED_EXPERTS = "experts of a mixture that share one tensor; only experts with a tensor each are compressed"


@dataclass(frozen=True)
class Layer:
    """One weight that is compressed."""

    tensor: str
    """Its name in the source checkpoint."""
    name: str
    """Its name in reports and in the artifact: the path of the module in the stock model, or for an expert,
    which the model fuses with others, the path its tensor has on disk."""
    shape: tuple[int, int]
    """(out, in), whichever way the checkpoint stores it."""
    is_transposed: bool
    """True when the checkpoint stores [in, out], as GPT-2's Conv1D does."""
    expert: "Expert | None" = None


@dataclass(frozen=True)
class Expert:
    """Which part of a fused mixture-of-experts module a tensor is."""

    module: str
    """Path of the module that holds the fused experts."""
    index: int
    parameter: str
    """Name of the fused parameter inside that module, such as gate_up_proj."""


@dataclass(frozen=True)
class Block:
    """One repeated block: its tensors in the checkpoint and those that are compressed."""

    index: int
    path: str
    tensors: tuple[str, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class LayerPlan:
    """Every tensor of a checkpoint: compressed in a block, or kept with a reason."""

    blocks: tuple[Block, ...]
    outside: tuple[str, ...]
    """Tensors that belong to no block: embeddings, final norm, head."""
    kept: Mapping[str, str]
    """Tensor name in the source -> why it stays in its source precision."""
    stored_names: Mapping[str, str]
    """Tensor name in the source -> in the artifact: with the prefix of the model class where the source has none."""
    all_linear: bool
    """False when a layer is a Conv1D, which packed stock formats cannot hold."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All compressed layers, in the order of the blocks."""
        return tuple(layer for block in self.blocks for layer in block.layers)

    def in_artifact(self) -> "LayerPlan":
        """Return the same plan by the names tensors have in the artifact."""

        def renamed(tensors: Iterable[str]) -> tuple[str, ...]:
            return tuple(self.stored_names[tensor] for tensor in tensors)

        blocks = tuple(replace(block, tensors=renamed(block.tensors)) for block in self.blocks)
        return replace(self, blocks=blocks, outside=renamed(self.outside))


def plan_layers(architecture: Architecture, entries: Mapping[str, TensorEntry]) -> LayerPlan:
    """Decide for every tensor of a checkpoint what happens to it, from names and shapes alone.

    Raises:
        UnsupportedModelError: nothing in the blocks can be compressed.
        CheckpointError: a tensor does not fit the model.
    """
    modules = dict(architecture.model.named_modules())
    inside: dict[int, list[str]] = defaultdict(list)
    layers: dict[int, list[Layer]] = defaultdict(list)
    outside: list[str] = []
    kept: dict[str, str] = {}
    stored: dict[str, str] = {}
    prefix = architecture.blocks_path + "."
    for tensor, entry in sorted(entries.items(), key=lambda item: natural(item[0])):
        placement = architecture.placement(tensor)
        stored[tensor] = placement.parameter if placement and placement.parameter.endswith(f".{tensor}") else tensor
        if placement is None:
            kept[tensor] = "the model class has no place for it"
            continue
        if not placement.parameter.startswith(prefix):
            outside.append(tensor)
            kept[tensor] = "outside the repeated blocks"
            continue
        block = int(placement.parameter.removeprefix(prefix).split(".")[0])
        inside[block].append(tensor)
        layer = _layer(tensor, entry, placement.parameter, modules, is_fused=placement.is_fused)
        if isinstance(layer, Layer):
            layers[block].append(layer)
        else:
            kept[tensor] = layer
    if not layers:
        raise UnsupportedModelError(f"{architecture.name} has no Linear weights in its blocks")
    blocks = tuple(
        Block(index, f"{prefix}{index}", tuple(inside[index]), tuple(layers[index]))
        for index in range(len(architecture.blocks))
    )
    missing = [block.path for block in blocks if not block.tensors]
    if missing:
        raise CheckpointError(f"the checkpoint holds no tensor of {missing[0]}")
    plain = not any(layer.is_transposed for block in blocks for layer in block.layers)
    return LayerPlan(blocks, tuple(outside), kept, stored, all_linear=plain)


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts layer 2 before layer 10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name))


def _layer(
    tensor: str, entry: TensorEntry, parameter: str, modules: Mapping[str, nn.Module], *, is_fused: bool
) -> Layer | str:
    path, _, leaf = parameter.rpartition(".")
    module = modules[path]
    if not is_fused and "Expert" in type(module).__name__:
        return STACKED_EXPERTS
    if len(entry.shape) != 2:
        return "not a matrix"
    if not entry.dtype.is_floating_point or entry.dtype.itemsize not in FLOAT_BYTES:
        return f"stored as {str(entry.dtype).removeprefix('torch.')}"
    rows, columns = entry.shape
    if is_fused:
        index = _expert_index(tensor)
        if index is None or not tensor.endswith(".weight"):
            return "fused with other tensors by the model class"
        name = tensor.removesuffix(".weight")
        return Layer(tensor, name, (rows, columns), is_transposed=False, expert=Expert(path, index, leaf))
    if path.rpartition(".")[2] in ROUTER_NAMES:
        return "router of a mixture of experts"
    if leaf != "weight" or not isinstance(module, nn.Linear | Conv1D):
        return f"not a Linear weight ({type(module).__name__})"
    is_transposed = isinstance(module, Conv1D)
    return Layer(tensor, path, (columns, rows) if is_transposed else (rows, columns), is_transposed=is_transposed)


def _expert_index(tensor: str) -> int | None:
    found = re.search(r"experts\.(\d+)\.", tensor)
    return int(found.group(1)) if found else None
