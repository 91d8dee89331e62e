"""The calibration windows on their way through the blocks: as the source has them, and behind the compressed blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from srr_core.checkpoint.artifact_names import factor_names
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.formats.layout import Layout
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Block
from srr_core.models.stream import Stream
from srr_core.models.weights import BlockWeights
from srr_core.pipeline.layer_folder import FinishedLayer
from srr_core.recipe import LearnedSpec, Recipe


@dataclass
class Streams:
    """One or two streams of the same windows at the same block.

    Memory: the hidden states of all windows, once more for the second stream.
    """

    source: Stream
    prefix: Stream | None
    """Behind the compressed blocks; None where nothing asks for it."""
    is_calibrated_on_prefix: bool

    @classmethod
    def of(cls, stream: Stream, recipe: Recipe) -> "Streams":
        """Return what a recipe needs, at the first block."""
        on_prefix = recipe.calibration.inputs == "compressed"
        is_needed = on_prefix or isinstance(recipe.quantizer, LearnedSpec)
        return cls(stream, stream.branch() if is_needed else None, on_prefix)

    @property
    def observed(self) -> Stream:
        """The stream statistics are taken from."""
        return self.prefix if self.is_calibrated_on_prefix and self.prefix is not None else self.source

    def run_source(self, model: BlockwiseModel, block: nn.Module) -> None:
        """Run the block, which has the weights of the source, if no pass has done so yet."""
        if self.prefix is not None and self.source.next_block == self.prefix.next_block:
            model.run_block(self.source, block)


def write_finished(weights: BlockWeights, block: Block, finished: Mapping[str, FinishedLayer], layout: Layout) -> None:
    """Let a loaded block compute with its finished layers, as they lie on disk; the others keep their weights."""
    for layer in block.layers:
        if layer.name in finished and layer.name in weights:
            weights.write(layer.name, stored_weight(layer.name, finished[layer.name], layout))


def stored_weight(name: str, finished: FinishedLayer, layout: Layout) -> Float32[Tensor, "out in"]:
    """Return Q + L·R of a finished layer as it lies on disk."""
    file = next(iter(finished.tensors.values())).file
    read = CheckpointReader(file.parent, entries=finished.tensors).__getitem__
    weight = layout.read_layer(name, read).dequantize()
    right, left = factor_names(name)
    if right not in finished.tensors:
        return weight
    return weight.addmm_(read(left).to(torch.float32), read(right).to(torch.float32))
