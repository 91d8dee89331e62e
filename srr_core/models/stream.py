"""Windows of text on their way through the blocks of a model: where they are, and what each block is called with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from srr_core.models.handed import Handed

Hidden = Float[Tensor, "_ _ ..."]
"""What a block reads and returns: [sequences, tokens, hidden] mostly. Some classes turn the first two, and
hyper-connections keep several streams of each token."""


@dataclass(frozen=True)
class Call:
    """The arguments of a block other than its hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


Calls = Sequence[Sequence[Call]]
"""By block; most blocks are called once, one that the model repeats several times, one that it skips never."""


@dataclass
class Stream:
    """Hidden states of all batches on their way through the blocks, and the arguments of every block.

    Blocks that hand nothing but hidden states to each other are one stretch. Between two stretches the model does
    something of its own, as between encoder and decoder; what the next one is called with is known once the one before
    has been run.

    Memory: sequences x length x hidden x 4 bytes, on the device; once more for every stretch that lies behind.
    """

    batches: tuple[Int64[Tensor, "_ window"], ...]
    hidden: list[Hidden]
    calls: list[list[list[Call]]]
    """By batch and block, of the blocks up to the end of the stretch."""
    next_block: int = 0
    handed: list[dict[Handed, Any]] = field(default_factory=list)
    """Of every batch, what blocks returned beside hidden states and later ones, or the model behind them, ask for."""
    stretches: list[range] = field(default_factory=list)
    ended: list[list[Hidden]] = field(default_factory=list)
    """Of every batch, the hidden states behind each stretch but the last."""

    pinned: set[Handed] = field(default_factory=set)
    """What the model itself computes with between stretches, which is asked for whenever it runs again."""

    def branch(self, batches: int | None = None) -> "Stream":
        """Return a stream at the same place that goes its own way from here; no tensor is copied.

        Args:
            batches: That it has, from the first; all by default.
        """
        part = slice(batches)
        return Stream(
            self.batches[part],
            list(self.hidden[part]),
            [list(calls) for calls in self.calls[part]],
            self.next_block,
            [dict(values) for values in self.handed[part]],
            list(self.stretches),
            [list(states) for states in self.ended[part]],
            set(self.pinned),
        )

    def behind(self, number: int, last: Hidden | None = None) -> dict[int, Hidden]:
        """Return, by block, what the stretches that are done end with in one batch; a block of them stands for all.

        Args:
            last: What the last stretch ends with, where it is done too.
        """
        states = [*self.ended[number], *([] if last is None else [last])]
        return {block: hidden for stretch, hidden in zip(self.stretches, states, strict=False) for block in stretch}


def sharing(calls: Calls, reference: Calls) -> list[list[Call]]:
    """Return calls in which what is equal to a reference is the reference's: full batches have the same masks."""
    return [
        [_like(call, same) for call, same in zip(*pair, strict=True)] for pair in zip(calls, reference, strict=True)
    ]


def _like(call: Call, same: Call) -> Call:
    return Call(
        tuple(_shared(value, other) for value, other in zip(call.args, same.args, strict=False)),
        {key: _shared(value, same.kwargs.get(key)) for key, value in call.kwargs.items()},
    )


def _shared(value: Any, reference: Any) -> Any:
    if isinstance(value, tuple) and isinstance(reference, tuple) and len(value) == len(reference):
        return tuple(_shared(item, other) for item, other in zip(value, reference, strict=True))
    if isinstance(value, Tensor) and isinstance(reference, Tensor) and value.shape == reference.shape:
        return reference if torch.equal(value, reference) else value
    return value
