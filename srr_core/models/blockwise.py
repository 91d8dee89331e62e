"""A model run block by block, with the weights of one block in memory.

The stock model is asked once per batch what it would call its blocks with: every block's forward is replaced
by one that records its arguments and passes the hidden states on. The blocks are then run one at a time over
all batches. Nothing here knows an architecture, a mask or a rotary embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from srr_core.errors import NonFiniteWeightError, UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.models.handed import Handed, ReturnForm, StandIns, filled, wanted
from srr_core.models.layers import LayerPlan

Hidden = Float[Tensor, "_ length *streams hidden"]
"""What a block reads and returns; hyper-connections keep several streams of each token."""


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
    calls: list[list[list[_Call]]]
    """By batch and block; most blocks are called once, one that the model repeats several times."""
    next_block: int = 0
    handed: list[dict[Handed, Any]] = field(default_factory=list)
    """Of every batch, what blocks returned beside hidden states and later ones, or the model behind them, ask for."""

    def branch(self, batches: int | None = None) -> "Stream":
        """Return a stream at the same place that goes its own way from here; no tensor is copied.

        Args:
            batches: That it has, from the first; all by default.
        """
        part = slice(batches)
        handed = [dict(values) for values in self.handed[part]]
        return Stream(self.batches[part], list(self.hidden[part]), self.calls[part], self.next_block, handed)


class _FirstCall(Exception):  # noqa: N818  # no error: it carries the arguments out of the model
    def __init__(self, index: int, hidden: Hidden, call: _Call) -> None:
        self.index, self.hidden, self.call = index, hidden, call


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
        self._forms: dict[type[nn.Module], ReturnForm] = {}

    @contextmanager
    def outer_weights(self) -> Iterator[None]:
        """Hold the embeddings, the final norm and the head in memory."""
        architecture = self._architecture
        architecture.load(self._weights, self._plan.outside, device=self._device)
        architecture.tie()
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
        with self.outer_weights(), running(self._architecture.name):
            self._require_finite()
            self._learn_return_forms(moved[0][:1])
            hidden: list[Hidden] = []
            calls: list[list[list[_Call]]] = []
            for batch in moved:
                first, recorded = self._record(batch)
                hidden.append(first)
                calls.append(_sharing(recorded, calls[0] if calls else recorded))
        return Stream(moved, hidden, calls, handed=[{} for _ in moved])

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
            hidden = self.forward_block(stream, block, number, hand_on=advance)
            if advance:
                stream.hidden[number] = hidden
            if after_batch is not None:
                after_batch()
        stream.next_block += int(advance)

    def forward_block(self, stream: Stream, block: nn.Module, number: int, *, hand_on: bool = False) -> Hidden:
        """Return what the next block, which must be loaded, makes of one batch. Recorded for autograd where it is on.

        Args:
            hand_on: Whether what it returns beside hidden states is kept for later blocks.
        """
        handed, hidden = stream.handed[number], stream.hidden[number]
        for call in stream.calls[number][stream.next_block]:
            with running(self._architecture.name):
                output = block(hidden, *filled(call.args, handed), **filled(call.kwargs, handed))
            self._require_form(block, output)
            hidden = output if isinstance(output, Tensor) else output[0]
            if hand_on:
                self._hand_on(stream, number, output)
        return hidden

    def logits(
        self, stream: Stream
    ) -> Iterator[tuple[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]]]:
        """Yield each batch with the output of the model's head, after the last block."""
        with self.outer_weights():
            for batch, hidden, handed in zip(stream.batches, stream.hidden, stream.handed, strict=True):
                with torch.no_grad(), self._replaced(_injecting(hidden), handed), running(self._architecture.name):
                    logits = self._model(input_ids=batch, use_cache=False).logits
                yield batch, logits

    def head_gradients(
        self, stream: Stream, loss: Callable[[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]], Tensor]
    ) -> Iterator[Hidden]:
        """Yield, for each batch after the last block, the gradient of a loss of tokens and logits by its states."""
        with self.outer_weights():
            for batch, hidden, handed in zip(stream.batches, stream.hidden, stream.handed, strict=True):
                last = hidden.detach().clone().requires_grad_(True)
                with torch.enable_grad(), self._replaced(_injecting(last), handed):
                    value = loss(batch, self._model(input_ids=batch, use_cache=False).logits)
                (gradient,) = torch.autograd.grad(value, last)
                yield gradient

    @torch.no_grad()
    def finish(self, stream: Stream) -> None:
        """Turn hidden states after the last block into what the head reads; the outer weights must be held.

        Raises:
            UnsupportedModelError: the model does not end with one call of its head.
        """
        for number, (batch, handed) in enumerate(zip(stream.batches, stream.handed, strict=True)):
            read: list[Hidden] = []

            def note(states: Hidden, read: list[Hidden] = read) -> Tensor:
                read.append(states)
                return states[..., :1]  # in the place of logits, which would be large

            with self._replaced(_injecting(stream.hidden[number]), handed), self._replaced_head(note):
                self._model(input_ids=batch, use_cache=False)
            if len(read) != 1 or read[0].shape[:2] != batch.shape:
                raise UnsupportedModelError(f"{type(self._model).__name__} does not end with one call of its head")
            stream.hidden[number] = read[0]

    @torch.no_grad()
    def head(self, states: Float[Tensor, "rows hidden"]) -> Float32[Tensor, "rows vocabulary"]:
        """Return the logits of some positions of a finished stream; the outer weights must be held.

        What a model does to its logits, such as capping them, it does to each alone.
        """
        compute = self._head().forward
        token = torch.zeros((1, 1), dtype=torch.int64, device=states.device)
        # The forward pass of one token, whose blocks do nothing, around the head of other positions.
        with (
            self._replaced(lambda _, hidden, *__, **___: hidden, {}),
            self._replaced_head(lambda _: compute(states[None])),
        ):
            logits: Tensor = self._model(input_ids=token, use_cache=False).logits
        return logits[0].to(torch.float32)

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks)

    @property
    def vocabulary_size(self) -> int:
        """How many logits a position has."""
        return int(self._head().weight.shape[0])

    def outer_tensors(self) -> Iterator[Tensor]:
        """Yield what the checkpoint holds of embeddings, final norm and head, one at a time, as it is stored."""
        for name in self._plan.outside:
            yield self._weights[name]

    def _head(self) -> Any:
        return self._model.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers leaves it so

    @contextmanager
    def _replaced_head(self, forward: Callable[[Hidden], Tensor]) -> Iterator[None]:
        head = self._head()
        head.forward = forward
        try:
            yield
        finally:
            del head.forward

    def _require_finite(self) -> None:
        # Here, because calibration may never look at the row of an embedding that is broken.
        for name, parameter in self._model.named_parameters():
            if not parameter.is_meta and not bool(torch.isfinite(parameter).all()):
                bad = int((~torch.isfinite(parameter)).sum())
                raise NonFiniteWeightError(
                    f"{name} holds {bad} values that are NaN or infinite; repair the source checkpoint"
                )

    def _learn_return_forms(self, batch: Int64[Tensor, "one length"]) -> None:
        # A block may return its hidden states or a sequence around them; only running one of its class tells.
        while True:
            reached = self._first_unknown(batch)
            if reached is None:
                return
            with self.loaded_block(reached.index) as block:
                call = reached.call
                self._forms[type(block)] = ReturnForm.of(block(reached.hidden, *call.args, **call.kwargs))

    def _first_unknown(self, batch: Int64[Tensor, "one length"]) -> "_FirstCall | None":
        def pass_on(index: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            if type(self._blocks[index]) not in self._forms:
                raise _FirstCall(index, hidden, _Call(args, kwargs))
            return hidden

        blocks = enumerate(self._blocks)
        forms = [(index, self._forms.get(type(block), ReturnForm(None))) for index, block in blocks]
        trial = {Handed(index, n): value for index, form in forms for n, value in enumerate(form.extras)}
        with self._replaced(pass_on, trial):
            try:
                self._forward(batch)
            except _FirstCall as reached:
                return reached
        return None

    def _require_form(self, block: nn.Module, output: Any) -> None:
        known, found = self._forms[type(block)], ReturnForm.of(output)
        if (known.kind, len(known.extras)) != (found.kind, len(found.extras)):
            raise UnsupportedModelError("its blocks of one class return different things")

    def _hand_on(self, stream: Stream, number: int, output: Any) -> None:
        """Keep what later blocks ask of this one, and of earlier ones; all of the last block, for the model's end."""
        index, handed = stream.next_block, stream.handed[number]
        extras = () if isinstance(output, Tensor) else output[1:]
        handed |= {Handed(index, place): value for place, value in enumerate(extras)}
        if not handed:
            return
        asked: set[Handed] = set()
        for calls in stream.calls[number][index:]:
            for call in calls:
                asked |= wanted(call.args) | wanted(dict(call.kwargs))
        for place in [place for place in handed if place not in asked and place.block != len(self._blocks) - 1]:
            del handed[place]

    def _record(self, batch: Int64[Tensor, "_ length"]) -> tuple[Hidden, list[list[_Call]]]:
        recorded: list[list[_Call]] = [[] for _ in self._blocks]
        entered: list[Hidden] = []
        stand_ins, last = StandIns(), 0

        def note(index: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            nonlocal last
            if index < last:
                raise UnsupportedModelError("it goes through its blocks in another order than theirs, or again")
            if entered and hidden is not entered[0] and not torch.equal(hidden, entered[0]):
                raise UnsupportedModelError("it works on the hidden states between its blocks")
            last = index
            entered.append(hidden)
            recorded[index].append(_Call(stand_ins.marked(args), stand_ins.marked(kwargs)))
            return hidden

        with self._replaced(note, {}, stand_ins):
            self._forward(batch)
        return entered[0], recorded

    def _forward(self, batch: Int64[Tensor, "_ length"]) -> None:
        # The base model stops before the head: logits of a whole batch can be larger than the model.
        self._model.base_model(input_ids=batch, use_cache=False)

    @contextmanager
    def _replaced(
        self, forward: Callable[..., Hidden], handed: Mapping[Handed, Any], stand_ins: StandIns | None = None
    ) -> Iterator[None]:
        known = stand_ins or StandIns()

        def bound(index: int, form: ReturnForm) -> Callable[..., Any]:
            def call(hidden_states: Hidden, *args: Any, **kwargs: Any) -> Any:
                result = forward(index, hidden_states, *args, **kwargs)
                extras = known.extras(index, form)
                return form.wrap(result, tuple(handed.get(Handed(index, n), extra) for n, extra in enumerate(extras)))

            return call

        for index, block in enumerate(self._blocks):
            block.forward = bound(index, self._forms.get(type(block), ReturnForm(None)))
        try:
            yield
        finally:
            for block in self._blocks:
                del block.forward


@contextmanager
def running(name: str) -> Iterator[None]:
    """Tell what a model class raises while it runs as a reason not to take the model, and not as a traceback.

    Raises:
        UnsupportedModelError: the class cannot run on token ids alone, block by block.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UnsupportedModelError(f"{name} does not run block by block on a text: {reason}") from error


def _injecting(last: Hidden) -> Callable[..., Hidden]:
    def forward(index: int, hidden: Hidden, *_: Any, **__: Any) -> Hidden:
        return last if index == 0 else hidden

    return forward


def _sharing(calls: list[list[_Call]], reference: list[list[_Call]]) -> list[list[_Call]]:
    # Masks and positions are the same for every full batch: keep one copy of what is equal.
    return [
        [_like(call, same) for call, same in zip(*pair, strict=True)] for pair in zip(calls, reference, strict=True)
    ]


def _like(call: _Call, same: _Call) -> _Call:
    return _Call(
        tuple(_shared(value, other) for value, other in zip(call.args, same.args, strict=False)),
        {key: _shared(value, same.kwargs.get(key)) for key, value in call.kwargs.items()},
    )


def _shared(value: Any, reference: Any) -> Any:
    if isinstance(value, tuple) and isinstance(reference, tuple) and len(value) == len(reference):
        return tuple(_shared(item, other) for item, other in zip(value, reference, strict=True))
    if isinstance(value, Tensor) and isinstance(reference, Tensor) and value.shape == reference.shape:
        return reference if torch.equal(value, reference) else value
    return value
