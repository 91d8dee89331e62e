"""A model run block by block, with the weights of one block in memory.

The stock model is asked once per batch what it would call its blocks with: every block's forward is replaced
by one that records its arguments and passes the hidden states on. The blocks are then run one at a time over
all batches. Nothing here knows an architecture, a mask or a rotary embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from srr_core.errors import NonFiniteWeightError
from srr_core.models.architecture import Architecture
from srr_core.models.layers import LayerPlan

Hidden = Float[Tensor, "_ length hidden"]


@dataclass(frozen=True)
class _Call:
    """The arguments of a block other than its hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Stream:
    """Hidden states of all batches on their way through the blocks, and the arguments of every block.

    Memory: sequences x length x hidden x 4 bytes, on the device.
    """

    batches: tuple[Int64[Tensor, "_ length"], ...]
    hidden: list[Hidden]
    calls: list[list[_Call]]
    next_block: int = 0

    def branch(self) -> "Stream":
        """Return a stream at the same place that goes its own way from here; nothing is copied."""
        return Stream(self.batches, list(self.hidden), self.calls, self.next_block)


def forward_block(stream: Stream, block: nn.Module, number: int) -> Hidden:
    """Return what the next block, which must be loaded, makes of one batch. Recorded for autograd where it is on."""
    call = stream.calls[number][stream.next_block]
    output = block(stream.hidden[number], *call.args, **call.kwargs)
    hidden: Hidden = output[0] if isinstance(output, tuple) else output
    return hidden


class _FirstCall(Exception):  # noqa: N818  # no error: it carries the arguments out of the model
    def __init__(self, hidden: Hidden, call: _Call) -> None:
        self.hidden, self.call = hidden, call


class BlockwiseModel:
    """Runs an architecture over weights that are read when they are needed.

    Args:
        architecture: Owned by this object while it runs; its blocks are loaded and unloaded.
        weights: Tensors by the names of the source checkpoint.
        plan: Which of these names belong to which block.
        device: Where blocks run, in float32.
    Raises:
        CheckpointError: a needed tensor is missing or has the wrong shape.
    """

    def __init__(
        self, architecture: Architecture, weights: Mapping[str, Tensor], plan: LayerPlan, device: torch.device
    ) -> None:
        architecture.move_buffers(device)
        self._architecture = architecture
        self._weights = weights
        self._plan = plan
        self._device = device
        self._model = architecture.model
        self._blocks: Sequence[nn.Module] = list(architecture.blocks)
        self._returns_tuple = False

    @contextmanager
    def outer_weights(self) -> Iterator[None]:
        """Hold the embeddings, the final norm and the head in memory."""
        architecture = self._architecture
        architecture.load(self._weights, self._plan.outside, device=self._device)
        self._model.tie_weights()
        try:
            yield
        finally:
            architecture.unload(self._model)

    @contextmanager
    def loaded_block(self, index: int) -> Iterator[nn.Module]:
        """Hold the weights of one block in memory."""
        block = self._blocks[index]
        self._architecture.load(self._weights, self._plan.blocks[index].tensors, device=self._device)
        self._architecture.require_loaded(block, self._plan.blocks[index].path)
        try:
            yield block
        finally:
            self._architecture.unload(block)

    @torch.no_grad()
    def start(self, batches: Sequence[Int64[Tensor, "_ length"]]) -> Stream:
        """Embed all batches and record what each block will be called with."""
        moved = tuple(batch.to(self._device) for batch in batches)
        with self.outer_weights():
            self._require_finite()
            self._learn_return_type(moved[0][:1])
            hidden: list[Hidden] = []
            calls: list[list[_Call]] = []
            for batch in moved:
                first, recorded = self._record(batch)
                hidden.append(first)
                calls.append(_sharing(recorded, calls[0] if calls else recorded))
        return Stream(moved, hidden, calls)

    @torch.no_grad()
    def run_block(
        self,
        stream: Stream,
        block: nn.Module,
        *,
        after_batch: Callable[[], None] | None = None,
        advance: bool = True,
    ) -> None:
        """Run the next block, which must be loaded, over all batches; keep its outputs if `advance`."""
        for number in range(len(stream.hidden)):
            output = forward_block(stream, block, number)
            if advance:
                stream.hidden[number] = output
            if after_batch is not None:
                after_batch()
        stream.next_block += int(advance)

    def logits(
        self, stream: Stream
    ) -> Iterator[tuple[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]]]:
        """Yield each batch with the output of the model's head, after the last block."""
        with self.outer_weights():
            for batch, hidden in zip(stream.batches, stream.hidden, strict=True):
                with torch.no_grad(), self._replaced(_injecting(hidden)):
                    logits = self._model(input_ids=batch, use_cache=False).logits
                yield batch, logits

    def head_gradients(
        self, stream: Stream, loss: Callable[[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]], Tensor]
    ) -> Iterator[Hidden]:
        """Yield, for each batch after the last block, the gradient of a loss of tokens and logits by its states."""
        with self.outer_weights():
            for batch, hidden in zip(stream.batches, stream.hidden, strict=True):
                last = hidden.detach().clone().requires_grad_(True)
                with torch.enable_grad(), self._replaced(_injecting(last)):
                    value = loss(batch, self._model(input_ids=batch, use_cache=False).logits)
                (gradient,) = torch.autograd.grad(value, last)
                yield gradient

    def _require_finite(self) -> None:
        # Here, because calibration may never look at the row of an embedding that is broken.
        for name, parameter in self._model.named_parameters():
            if not parameter.is_meta and not bool(torch.isfinite(parameter).all()):
                bad = int((~torch.isfinite(parameter)).sum())
                raise NonFiniteWeightError(
                    f"{name} holds {bad} values that are NaN or infinite; repair the source checkpoint"
                )

    def _learn_return_type(self, batch: Int64[Tensor, "one length"]) -> None:
        # A block may return its hidden states or a tuple around them; only running one tells.
        def stop(_: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            raise _FirstCall(hidden, _Call(args, kwargs))

        first: _FirstCall | None = None
        with self._replaced(stop):
            try:
                self._forward(batch)
            except _FirstCall as reached:
                first = reached
        assert first is not None  # noqa: S101  # a model with blocks calls the first of them
        with self.loaded_block(0) as block:
            self._returns_tuple = isinstance(block(first.hidden, *first.call.args, **first.call.kwargs), tuple)

    def _record(self, batch: Int64[Tensor, "_ length"]) -> tuple[Hidden, list[_Call]]:
        recorded: list[_Call] = []
        entered: list[Hidden] = []

        def note(_: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            entered.append(hidden)
            recorded.append(_Call(args, kwargs))
            return hidden

        with self._replaced(note):
            self._forward(batch)
        return entered[0], recorded

    def _forward(self, batch: Int64[Tensor, "_ length"]) -> None:
        # The base model stops before the head: logits of a whole batch can be larger than the model.
        self._model.base_model(input_ids=batch, use_cache=False)

    @contextmanager
    def _replaced(self, forward: Callable[..., Hidden]) -> Iterator[None]:
        def bound(index: int) -> Callable[..., Any]:
            def call(hidden_states: Hidden, *args: Any, **kwargs: Any) -> Any:
                result = forward(index, hidden_states, *args, **kwargs)
                return (result,) if self._returns_tuple else result

            return call

        for index, block in enumerate(self._blocks):
            block.forward = bound(index)
        try:
            yield
        finally:
            for block in self._blocks:
                del block.forward


def _injecting(last: Hidden) -> Callable[..., Hidden]:
    def forward(index: int, hidden: Hidden, *_: Any, **__: Any) -> Hidden:
        return last if index == 0 else hidden

    return forward


def _sharing(calls: list[_Call], reference: list[_Call]) -> list[_Call]:
    # Masks and positions are the same for every full batch: keep one copy of what is equal.
    return [
        _Call(
            tuple(_shared(value, other) for value, other in zip(call.args, same.args, strict=False)),
            {key: _shared(value, same.kwargs.get(key)) for key, value in call.kwargs.items()},
        )
        for call, same in zip(calls, reference, strict=True)
    ]


def _shared(value: Any, reference: Any) -> Any:
    if isinstance(value, tuple) and isinstance(reference, tuple) and len(value) == len(reference):
        return tuple(_shared(item, other) for item, other in zip(value, reference, strict=True))
    if isinstance(value, Tensor) and isinstance(reference, Tensor) and value.shape == reference.shape:
        return reference if torch.equal(value, reference) else value
    return value
