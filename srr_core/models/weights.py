"""The weights of a loaded block under the names of its layers: replaced, put back, and asked for their gradients.

A layer is a module's weight, or a part of a parameter in which the model class keeps several experts. Which part is
found by looking for the layer's own weight in it, so no layout of any mixture is assumed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from srr_core.models.layers import Block, Layer


@dataclass(frozen=True)
class _Place:
    parameter: nn.Parameter
    index: int | None
    """Of the expert."""
    rows: slice
    is_transposed: bool

    def of(self, whole: Tensor) -> Tensor:
        """Return the part of a tensor shaped like the parameter, [out, in], sharing its memory."""
        part = whole if self.index is None else whole[self.index]
        return (part.mT if self.is_transposed else part)[self.rows]


class BlockWeights:
    """Access to the weights of one loaded block by layer.

    Args:
        model: The whole model, the block loaded with the weights of the source.
        block: Names and shapes of its layers.
        source: Returns the source weight of a layer, [out, in]; asked for experts only.
    """

    def __init__(self, model: nn.Module, block: Block, source: Callable[[Layer], Float[Tensor, "out in"]]) -> None:
        found = {layer.name: _place(model, layer, source) for layer in block.layers}
        self._places = {name: place for name, place in found.items() if place is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def expert_rows(self, name: str) -> tuple[int, slice] | None:
        """Return where products with an expert are seen: the address of their weight, and which of its outputs.

        None for a layer that is a module of its own.
        """
        place = self._places[name]
        if place.index is None:
            return None
        return place.parameter.data[place.index].data_ptr(), place.rows

    def write(self, name: str, weight: Float[Tensor, "out in"]) -> None:
        """Let the block compute with another weight of a layer."""
        place = self._places[name]
        place.of(place.parameter.data).copy_(weight)

    def gradient(self, name: str) -> Float32[Tensor, "out in"] | None:
        """Return what the last backward pass left for a layer; None where the layer took no part."""
        place = self._places[name]
        return None if place.parameter.grad is None else place.of(place.parameter.grad)

    def require_gradients(self, names: Iterable[str], *, wanted: bool) -> None:
        """Say whether the weights of these layers are to get gradients; those they have are forgotten."""
        for name in names:
            parameter = self._places[name].parameter
            parameter.requires_grad_(wanted)
            parameter.grad = None


def _place(model: nn.Module, layer: Layer, source: Callable[[Layer], Tensor]) -> _Place | None:
    if layer.expert is None:
        parameter = model.get_submodule(layer.module).get_parameter("weight")
        return _Place(parameter, None, slice(None), layer.is_transposed)
    fused = model.get_submodule(layer.expert.module).get_parameter(layer.expert.parameter)
    weight = source(layer).to(fused)
    for is_transposed in (False, True):
        whole = fused.data[layer.expert.index]
        rows = _rows(whole.mT if is_transposed else whole, weight)
        if rows is not None:
            return _Place(fused, layer.expert.index, rows, is_transposed)
    return None


def _rows(whole: Float[Tensor, "rows in"], weight: Float[Tensor, "out in"]) -> slice | None:
    """Return where a weight lies in a stack of weights as wide, or None."""
    count = len(weight)
    if whole.shape[1] != weight.shape[1] or len(whole) % count:
        return None
    for first in range(0, len(whole), count):
        if torch.equal(whole[first : first + count], weight):
            return slice(first, first + count)
    return None
