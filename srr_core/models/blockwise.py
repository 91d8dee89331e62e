"""A model run block by block, with the weights of one block in memory.

The stock model is asked once per batch what it would call its blocks with: every block's forward is replaced
by one that records its arguments and passes the hidden states on. The blocks are then run one at a time over
all batches. Where the model does something of its own between two blocks, as an encoder-decoder does between its
stacks, it is asked again once those before have been run, with what they returned in their places. Nothing here
knows an architecture, a mask or a rotary embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from srr_core.errors import NonFiniteWeightError, UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.models.handed import Handed, ReturnForm, StandIns, filled, wanted
from srr_core.models.inputs import inputs_of, predicted_ids, takes_ids
from srr_core.models.layers import LayerPlan
from srr_core.models.recording import FirstCall, HeadReached, Recorder, StretchEnded, injecting, running
from srr_core.models.stream import Call, Hidden, Stream, sharing

_LEAST_TOKENS = 2
"""A window has this many, one for each half of an encoder-decoder."""


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
        self._blocks: Sequence[nn.Module] = [block for _, block in architecture.blocks]
        # Blocks of one class may return other things in another stack, as those of encoder and decoder do.
        self._kinds = [(path.rpartition(".")[0], type(block)) for path, block in architecture.blocks]
        self._forms: dict[tuple[str, type[nn.Module]], ReturnForm] = {}

    @contextmanager
    def outer_weights(self) -> Iterator[None]:
        """Hold the embeddings, the final norm and the head in memory."""
        architecture = self._architecture
        architecture.load(self._weights, self._plan.outside, device=self._device)
        architecture.tie()
        architecture.compute(device=self._device)
        try:
            yield
        finally:
            architecture.unload(self._model)

    @contextmanager
    def loaded_block(self, index: int, *streams: Stream | None) -> Iterator[nn.Module]:
        """Hold the weights of one block in memory.

        Args:
            streams: That are to run through it. Those at the end of a stretch enter the next one before, for which the
                embeddings and what else lies outside the blocks are in memory.
        """
        for stream in streams:
            if stream is not None:
                self._enter(stream)
        block = self._blocks[index]
        self._architecture.load(self._weights, self._plan.blocks[index].tensors, device=self._device)
        self._architecture.require_loaded(block, self._plan.blocks[index].path)
        try:
            yield block
        finally:
            self._architecture.unload(block)

    @torch.no_grad()
    def start(self, batches: Sequence[Int64[Tensor, "_ length"]]) -> Stream:
        """Embed all batches and record what each block of the first stretch will be called with."""
        moved = tuple(batch.to(self._device) for batch in batches)
        stream = Stream(moved, [], [[] for _ in moved], handed=[{} for _ in moved], ended=[[] for _ in moved])
        with self.outer_weights(), running(self._architecture.name):
            self._require_finite()
            self._learn_return_forms(moved[0][:1])
            self._record_all(stream)
        return stream

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
            self._require_form(stream.next_block, output)
            hidden = output if isinstance(output, Tensor) else output[0]
            if hand_on:
                self._hand_on(stream, number, output)
        return hidden

    def logits(
        self, stream: Stream
    ) -> Iterator[tuple[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]]]:
        """Yield what the model predicts of each batch, with the output of its head, after the last block."""
        with self.outer_weights():
            for number, batch in enumerate(stream.batches):
                with torch.no_grad(), self._behind_blocks(stream, number), running(self._architecture.name):
                    logits = self._model(**inputs_of(self._model, batch)).logits
                yield predicted_ids(self._model, batch), logits

    def head_gradients(
        self, stream: Stream, loss: Callable[[Int64[Tensor, "_ length"], Float[Tensor, "_ length vocabulary"]], Tensor]
    ) -> Iterator[Hidden]:
        """Yield, for each batch after the last block, the gradient of a loss of tokens and logits by its states."""
        with self.outer_weights():
            for number, batch in enumerate(stream.batches):
                last = stream.hidden[number].detach().clone().requires_grad_(True)
                with torch.enable_grad(), self._behind_blocks(stream, number, last):
                    logits = self._model(**inputs_of(self._model, batch)).logits
                    value = loss(predicted_ids(self._model, batch), logits)
                (gradient,) = torch.autograd.grad(value, last)
                yield gradient

    @torch.no_grad()
    def finish(self, stream: Stream) -> None:
        """Turn hidden states after the last block into what the head reads; the outer weights must be held.

        Raises:
            UnsupportedModelError: the model does not end with one call of its head.
        """
        for number, batch in enumerate(stream.batches):
            read: list[Hidden] = []

            def note(states: Hidden, read: list[Hidden] = read) -> Tensor:
                read.append(states)
                return states[..., :1]  # in the place of logits, which would be large

            with self._behind_blocks(stream, number), self._replaced_head(note), running(self._architecture.name):
                try:
                    self._model(**inputs_of(self._model, batch))
                except (IndexError, RuntimeError):  # of what a class does to logits, which these are not
                    if not read:
                        raise
            if len(read) != 1 or read[0].shape[:2] != predicted_ids(self._model, batch).shape:
                raise UnsupportedModelError(f"{type(self._model).__name__} does not end with one call of its head")
            stream.hidden[number] = read[0]

    @torch.no_grad()
    def head(self, states: Float[Tensor, "rows hidden"]) -> Float32[Tensor, "rows vocabulary"]:
        """Return the logits of some positions of a finished stream; the outer weights must be held.

        What a model does to its logits, such as capping them, it does to each alone.
        """
        compute = self._head().forward
        window = torch.zeros((1, _LEAST_TOKENS), dtype=torch.int64, device=states.device)
        # The forward pass of one window, whose blocks do nothing, around the head of other positions.
        with (
            self._replaced(lambda _, hidden, *__, **___: hidden, {}),
            self._replaced_head(lambda _: compute(states[None])),
        ):
            logits: Tensor = self._model(**inputs_of(self._model, window)).logits
        return logits[0].to(torch.float32)

    def predicted(self, ids: Int64[Tensor, "windows length"]) -> Int64[Tensor, "windows predicted"]:
        """Return what the model predicts of windows, the token before it at its begin; see `predicted_ids`."""
        return predicted_ids(self._model, ids)

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
        return self._architecture.head

    @contextmanager
    def _replaced_head(self, forward: Callable[..., Tensor]) -> Iterator[None]:
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
                self._forms[self._kinds[reached.index]] = ReturnForm.of(
                    block(reached.hidden, *call.args, **call.kwargs)
                )

    def _first_unknown(self, batch: Int64[Tensor, "one length"]) -> FirstCall | None:
        def pass_on(index: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            if self._kinds[index] not in self._forms:
                raise FirstCall(index, hidden, Call(args, kwargs))
            return hidden

        forms = [(index, self._forms.get(kind, ReturnForm(None))) for index, kind in enumerate(self._kinds)]
        trial = {Handed(index, n): value for index, form in forms for n, value in enumerate(form.extras)}
        with self._replaced(pass_on, trial):
            try:
                self._forward(batch)
            except FirstCall as reached:
                return reached
        return None

    def _require_form(self, index: int, output: Any) -> None:
        known, found = self._forms.get(self._kinds[index]), ReturnForm.of(output)
        if known is None or (known.kind, len(known.extras)) != (found.kind, len(found.extras)):
            raise UnsupportedModelError("its blocks of one class return different things")

    def _hand_on(self, stream: Stream, number: int, output: Any) -> None:
        """Keep what later blocks ask of this one, and of earlier ones; all of the last one, for the model behind it."""
        index, handed = stream.next_block, stream.handed[number]
        extras = () if isinstance(output, Tensor) else output[1:]
        handed |= {Handed(index, place): value for place, value in enumerate(extras)}
        if not handed:
            return
        asked: set[Handed] = set(stream.pinned)
        for calls in stream.calls[number][index:]:
            for call in calls:
                asked |= wanted(call.args) | wanted(dict(call.kwargs))
        last = max(block for block, calls in enumerate(stream.calls[number]) if calls)
        for place in [place for place in handed if place not in asked and place.block != last]:
            del handed[place]

    @torch.no_grad()
    def _enter(self, stream: Stream) -> None:
        """Record what the next stretch of blocks is called with, where a stream has come to the end of one."""
        if stream.next_block < stream.stretches[-1].stop or stream.next_block == len(self._blocks):
            return
        with self.outer_weights(), running(self._architecture.name):
            self._record_all(stream)

    def _record_all(self, stream: Stream) -> None:
        begin, known = stream.next_block, len(stream.stretches)
        ended = [[*states, stream.hidden[number]] if known else [] for number, states in enumerate(stream.ended)]
        before = replace(stream, ended=ended)
        end, is_computed_with = None, False
        entered: list[Hidden] = []
        recorded: list[list[list[Call]]] = []
        for number in range(len(stream.batches)):
            recorder, stop = self._record(before, number, begin, end, is_computed_with=is_computed_with)
            if end is None and recorder.entered is None and known:
                # It computes with what blocks returned beside hidden states, so these are put where they were.
                is_computed_with = True
                recorder, stop = self._record(before, number, begin, end, is_computed_with=True)
            if recorder.entered is None or stop != (end or stop):
                raise UnsupportedModelError(
                    "it computes between its blocks with what they return beside hidden states, or goes another way "
                    "with every text, so they cannot be run one at a time"
                )
            end = stop
            entered.append(recorder.entered)
            calls = [recorder.calls.get(index, []) for index in range(begin, end)]
            self._require_handed(before.handed[number], calls, begin)
            recorded.append(sharing(calls, recorded[0]) if recorded else calls)
        stream.ended, stream.hidden = ended, entered
        stream.stretches.append(range(begin, end or begin))
        for own, calls in zip(stream.calls, recorded, strict=True):
            own.extend(calls)
        if is_computed_with:
            stream.pinned |= stream.handed[0].keys()

    def _record(
        self, stream: Stream, number: int, begin: int, end: int | None, *, is_computed_with: bool
    ) -> tuple[Recorder, int]:
        """Return the calls of a stretch in one batch, and the block behind it."""
        recorder = Recorder(begin, end)
        repeat = injecting(stream.behind(number), stream.stretches)

        def forward(index: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
            if index < begin and not recorder.calls:
                return repeat(index, hidden)
            return recorder.note(index, hidden, *args, **kwargs)

        handed = stream.handed[number] if is_computed_with else {}
        with self._replaced(forward, handed, recorder.stand_ins):
            try:
                self._forward(stream.batches[number])
            except StretchEnded as ended:
                return recorder, ended.index
        return recorder, len(self._blocks)

    @staticmethod
    def _require_handed(handed: Mapping[Handed, Any], calls: Sequence[Sequence[Call]], begin: int) -> None:
        asked = [wanted(call.args) | wanted(dict(call.kwargs)) for block in calls for call in block]
        if any(place.block < begin and place not in handed for places in asked for place in places):
            raise UnsupportedModelError("a block asks for what one far before it returned, which is not kept")

    def _forward(self, batch: Int64[Tensor, "_ length"]) -> None:
        # The base model stops before the head: logits of a whole batch can be larger than the model.
        base = self._model.base_model if takes_ids(self._model.base_model) else self._model

        def stop(*_: Any, **__: Any) -> Tensor:
            raise HeadReached

        is_whole = base is self._model and self._head() is not None
        with self._replaced_head(stop) if is_whole else nullcontext(), suppress(HeadReached):
            base(**inputs_of(self._model, batch))

    def _behind_blocks(self, stream: Stream, number: int, last: Hidden | None = None) -> AbstractContextManager[None]:
        """Let the blocks return what they have returned in one batch, or something else at their end."""
        behind = stream.behind(number, stream.hidden[number] if last is None else last)
        return self._replaced(injecting(behind, stream.stretches), stream.handed[number])

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
            block.forward = bound(index, self._forms.get(self._kinds[index], ReturnForm(None)))
        try:
            yield
        finally:
            for block in self._blocks:
                del block.forward
