"""Windows of examples as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srr_core.tuners.examples import Example
from srr_core.tuners.packing import Window

IGNORED = -100
"""The target of a token the loss is not taken over; torch's own default."""


@dataclass(frozen=True)
class Batch:
    """What one pass through the model is computed from."""

    inputs: dict[str, Tensor]
    targets: Tensor
    """Tokens [windows, length], `IGNORED` where nothing is learned; or one label of each example."""
    num_targets: int
    """Tokens, or examples, the loss is taken over."""

    def to(self, device: torch.device) -> "Batch":
        """Return the same on a device."""
        moved = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(moved, self.targets.to(device), self.num_targets)


def token_batch(windows: Sequence[Window], *, padding: int, is_packed: bool) -> Batch:
    """Return windows whose tokens are learned.

    Packed windows carry positions that begin again with every example, by which transformers keeps the examples
    apart in attention; others carry an attention mask.

    Args:
        padding: The token behind a window that is shorter than the longest.
    """
    length = max(sum(map(len, window)) for window in windows)
    ids = torch.full((len(windows), length), padding, dtype=torch.long)
    targets = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    positions = torch.zeros_like(ids)
    for row, window in enumerate(windows):
        begin = 0
        for example in window:
            end = begin + len(example)
            tokens = torch.tensor(example.ids, dtype=torch.long)
            ids[row, begin:end] = tokens
            trained = torch.tensor(list(example.trained), dtype=torch.bool)
            targets[row, begin:end] = torch.where(trained, tokens, IGNORED)
            mask[row, begin:end] = 1
            positions[row, begin:end] = torch.arange(len(example))
            begin = end
        positions[row, begin:] = torch.arange(length - begin)
    extra = {"position_ids": positions} if is_packed else {"attention_mask": mask}
    return Batch({"input_ids": ids, **extra}, targets, int((targets != IGNORED).sum()))


def label_batch(examples: Sequence[Example], *, padding: int, is_number: bool) -> Batch:
    """Return examples with a label each; `is_number` where it is a value and not a class."""
    length = max(map(len, examples))
    ids = torch.full((len(examples), length), padding, dtype=torch.long)
    mask = torch.zeros_like(ids)
    segments = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example.ids, dtype=torch.long)
        mask[row, : len(example)] = 1
        if example.segments is not None:
            segments[row, : len(example)] = torch.tensor(example.segments, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if any(example.segments is not None for example in examples):
        inputs["token_type_ids"] = segments
    labels = [example.label for example in examples]
    return Batch(inputs, torch.tensor(labels, dtype=torch.float32 if is_number else torch.long), len(examples))
