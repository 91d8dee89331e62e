"""Which weights of a checkpoint are compressed, which are kept, and why."""

import copy
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from srr_core.checkpoint.expert_names import StackedPart, expert_name
from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.models.placement import Placement
from srr_core.models.stacks import is_stack, is_transposed

ROUTER_NAMES = frozenset({"gate", "router", "shared_expert_gate"})
FLOAT_BYTES = frozenset({2, 4, 8})
STACKED_EXPERTS = "experts of a mixture that share one tensor in a form that is not known"


@dataclass(frozen=True)
class Layer:
    """One weight that is compressed."""

    tensor: str
    """Its name in the source checkpoint."""
    name: str
    """Its name in reports and in the artifact: the path of the module in the stock model, or the path its tensor has on
    disk where stock loaders would rename the other, and for an expert, which the model fuses with others."""
    shape: tuple[int, int]
    """(out, in), whichever way the checkpoint stores it."""
    module: str
    """Path of its module in the stock model; for an expert, of the module that holds all of them."""
    is_transposed: bool
    """True when the checkpoint stores [in, out], as GPT-2's Conv1D does."""
    expert: "Expert | None" = None
    is_stacked: bool = False
    """True for one matrix of a tensor that holds those of all experts, and that no loader takes in pieces."""


@dataclass(frozen=True)
class Expert:
    """Which part of a fused mixture-of-experts module a tensor is."""

    module: str
    """Path of the module that holds the fused experts."""
    index: int
    parameter: str
    """Name of the fused parameter inside that module, such as gate_up_proj."""
    is_transposed: bool = False
    """True when the module multiplies with [in, out]."""
    adapter_name: str = ""
    """What an adapter calls the module, so that loaders, who rename what they read, find it."""


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
    """False when a layer is a Conv1D or one matrix of a stack, which packed stock formats cannot hold."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All compressed layers, in the order of the blocks."""
        return tuple(layer for block in self.blocks for layer in block.layers)

    def compressed_share(self, entries: Mapping[str, TensorEntry], *, of_blocks: bool = False) -> float:
        """Return the part of the bytes of all tensors that belongs to compressed layers, from 0 to 1.

        Args:
            of_blocks: Count what lies in the repeated blocks alone, embeddings and head left out.
        """
        within = [tensor for block in self.blocks for tensor in block.tensors] if of_blocks else list(entries)
        total = sum(entries[tensor].num_bytes for tensor in within)
        return self.compressed_bytes(entries) / total if total else 0.0

    def compressed_bytes(self, entries: Mapping[str, TensorEntry]) -> int:
        """Return the bytes of all tensors that belong to compressed layers."""
        return sum(entries[tensor].num_bytes for tensor in {layer.tensor for layer in self.layers})

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
    layer: Layer | str
    outside: list[str] = []
    kept: dict[str, str] = {}
    stored: dict[str, str] = {}
    numbers = {path: index for index, (path, _) in enumerate(architecture.blocks)}
    places = architecture.places.of_all(entries)
    shared = _shared_by_mixtures(places, architecture)
    for tensor, entry in sorted(entries.items(), key=lambda item: natural(item[0])):
        placement = places[tensor]
        stored[tensor] = placement.parameter if placement and placement.parameter.endswith(f".{tensor}") else tensor
        if placement is None:
            kept[tensor] = "the model class has no place for it"
            continue
        block = _block_of(placement.parameter, numbers)
        if block is None:
            outside.append(tensor)
            kept[tensor] = "outside the repeated blocks"
            continue
        inside[block].append(tensor)
        if _is_as_in_model(tensor, placement, architecture) and is_stack(entry, modules[placement.module]):
            layers[block] += _stacked(tensor, entry, placement.parameter, modules, architecture)
            stored[tensor] = placement.parameter
            continue
        layer = "its mixture is cut into several by the model class"
        if placement.parameter not in shared:
            layer = _layer(tensor, entry, placement, modules, architecture)
        if isinstance(layer, Layer):
            layers[block].append(layer)
            stored[tensor] = f"{layer.name}.weight"
        else:
            kept[tensor] = layer
    if not layers:
        raise UnsupportedModelError(f"{architecture.name} has no Linear weights in its blocks")
    blocks = tuple(Block(index, path, tuple(inside[index]), tuple(layers[index])) for path, index in numbers.items())
    _require_tensors(blocks)
    plain = not any(layer.is_transposed or layer.is_stacked for block in blocks for layer in block.layers)
    return LayerPlan(blocks, tuple(outside), kept, stored, all_linear=plain)


def _require_tensors(blocks: Iterable[Block]) -> None:
    for block in blocks:
        if not block.tensors:
            raise CheckpointError(f"the checkpoint holds no tensor of {block.path}")


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts layer 2 before layer 10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name))


def _shared_by_mixtures(places: Mapping[str, Placement | None], architecture: Architecture) -> frozenset[str]:
    """Return the fused parameters that are led to more experts than they hold: the others become another mixture's."""
    return frozenset(
        place.parameter
        for tensor, place in places.items()
        if place is not None
        and place.is_fused
        and (part := expert_name(tensor)) is not None
        and part.index >= architecture.places.shape(place.parameter)[0]
    )


def _is_as_in_model(tensor: str, placement: Placement, architecture: Architecture) -> bool:
    """Whether loaders take a tensor as it is, though they may know a conversion for another form of it."""
    return not placement.is_fused or (tensor == placement.parameter and architecture.places.takes_as_is(tensor))


def _block_of(parameter: str, numbers: Mapping[str, int]) -> int | None:
    """Return the number of the block that a parameter is in."""
    path = parameter
    while path := path.rpartition(".")[0]:
        if path in numbers:
            return numbers[path]
    return None


def _layer(
    tensor: str,
    entry: TensorEntry,
    placement: Placement,
    modules: Mapping[str, nn.Module],
    architecture: Architecture,
) -> Layer | str:
    """Return the layer that a tensor is, or why it is none."""
    path, _, leaf = placement.parameter.rpartition(".")
    module, is_fused = modules[path], placement.is_fused
    if len(entry.shape) != 2:
        return "not a matrix"
    if not is_fused and "Expert" in type(module).__name__:
        return STACKED_EXPERTS
    if not entry.dtype.is_floating_point or entry.dtype.itemsize not in FLOAT_BYTES:
        return f"stored as {str(entry.dtype).removeprefix('torch.')}"
    rows, columns = entry.shape
    if is_fused:
        found = expert_name(tensor)
        if found is None or not found.projection.endswith(".weight"):
            return "fused with other tensors by the model class"
        name = tensor.removesuffix(".weight")
        part = Expert(path, found.index, leaf)
        layer = Layer(tensor, name, (rows, columns), path, is_transposed=False, expert=part)
        return _named_for_loaders(layer, architecture)
    reason = _kept(path, leaf, module)
    is_transposed = isinstance(module, Conv1D)
    shape = (columns, rows) if is_transposed else (rows, columns)
    return reason or _named_for_loaders(Layer(tensor, path, shape, path, is_transposed=is_transposed), architecture)


def _stacked(
    tensor: str, entry: TensorEntry, parameter: str, modules: Mapping[str, nn.Module], architecture: Architecture
) -> list[Layer]:
    """Return the matrices of a stacked parameter as layers of our own layout."""
    path, _, leaf = parameter.rpartition(".")
    hidden_size = int(getattr(architecture.config.get_text_config(), "hidden_size", 0))
    turned = is_transposed(modules[path], hidden_size)
    experts, rows, columns = entry.shape
    shape = (columns, rows) if turned else (rows, columns)
    return [
        Layer(
            tensor,
            StackedPart(parameter, index).name,
            shape,
            path,
            is_transposed=turned,
            expert=Expert(path, index, leaf, is_transposed=turned),
            is_stacked=True,
        )
        for index in range(experts)
    ]


def _kept(path: str, leaf: str, module: nn.Module) -> str:
    """Return why a matrix that belongs to one module stays as it is, or an empty string."""
    if path.rpartition(".")[2] in ROUTER_NAMES:
        return "router of a mixture of experts"
    if leaf != "weight" or not isinstance(module, nn.Linear | Conv1D):
        return f"not a Linear weight ({type(module).__name__})"
    if type(module).forward not in (nn.Linear.forward, Conv1D.forward) and not _is_linear(module):
        return f"its module multiplies in a way of its own ({type(module).__name__})"
    return ""


@torch.no_grad()
def _is_linear(module: nn.Linear | Conv1D) -> bool:
    """Whether a subclass of Linear computes what Linear does, found by trying it on random numbers."""
    tried = copy.deepcopy(module).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in tried.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    inputs = torch.randn(2, tried.weight.shape[1], generator=generator)
    try:
        found = tried(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    wanted = nn.functional.linear(inputs, tried.weight, tried.bias)
    return isinstance(found, torch.Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3)


def _expert_for_adapters(layer: Layer, expert: Expert, architecture: Architecture) -> Expert:
    found = expert_name(layer.name)
    names = (expert.module, found.owner if found is not None else expert.module)
    wanted = f"{expert.module}.{expert.parameter}"
    reaching = (name for name in names if architecture.places.reaches(f"{name}.{expert.parameter}", wanted))
    return replace(expert, adapter_name=next(reaching, expert.module))


def _named_for_loaders(layer: Layer, architecture: Architecture) -> Layer | str:
    """Return a layer named as on disk where loaders, who rename what they read, would not find it by its own path."""
    on_disk = layer.tensor.removesuffix(".weight")
    if layer.expert is not None:
        return replace(layer, expert=_expert_for_adapters(layer, layer.expert, architecture))
    for name in (layer.name, on_disk):
        if architecture.places.reaches(f"{name}.weight", f"{layer.module}.weight"):
            return replace(layer, name=name)
    return "loaders rename it in a way that leads packed weights elsewhere"
