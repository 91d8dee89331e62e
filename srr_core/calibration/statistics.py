"""What the layers of one block see: statistics of their inputs, one for all layers that share an input."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from srr_core.errors import NumericalError
from srr_core.linalg.precision import exact_matmul
from srr_core.types import Statistics

GRAM_PANELS = 4


class InputAccumulator:
    """Sums over tokens of xᵀx and, per sequence, of |x|. Products in float32, sums in float64.

    Memory: in² x 8 bytes on the device of the inputs.
    """

    def __init__(self, in_features: int, device: torch.device) -> None:
        self._gram = torch.zeros(in_features, in_features, dtype=torch.float64, device=device)
        self._largest = torch.zeros(in_features, dtype=torch.float64, device=device)
        self.num_tokens = 0

    def add(self, inputs: Float[Tensor, "*batch tokens in"]) -> None:
        """Take in activations; the last two dimensions are the tokens of one sequence and the features.

        The mean of |x| is over all of them where a model has flattened the sequences of a batch to tokens.
        """
        if not inputs.numel():
            return
        sequences = inputs.detach().reshape(-1, *inputs.shape[-2:]).to(torch.float32)
        tokens = sequences.flatten(0, 1)
        with exact_matmul():
            self._add_gram(tokens)
        for sequence in sequences:  # one by one, because a mean in float64 makes a copy in float64
            means = sequence.abs().mean(dim=0, dtype=torch.float64)
            self._largest = torch.maximum(self._largest, means)
        self.num_tokens += len(tokens)

    @property
    def largest(self) -> Float64[Tensor, " in"]:
        """The largest mean of |x| over a sequence so far; a copy."""
        return self._largest.clone()

    def copy(self) -> "InputAccumulator":
        """Return an accumulator that goes its own way from here."""
        return copy.deepcopy(self)

    def without(self, inputs: Float[Tensor, "*batch tokens in"], largest: Float64[Tensor, " in"]) -> "InputAccumulator":
        """Return a copy from which what was added last is taken away, up to rounding in float64.

        Args:
            inputs: What was added.
            largest: What `largest` was before.
        """
        result = self.copy()
        tokens = inputs.detach().reshape(-1, inputs.shape[-1]).to(torch.float32)
        with exact_matmul():
            for part, product in result._products(tokens):  # noqa: SLF001  # of this class
                part.sub_(product)
        result._largest.copy_(largest)  # noqa: SLF001  # the same
        result.num_tokens -= len(tokens)
        return result

    def finish(self, layer: str) -> Statistics:
        """Return the means; the accumulator is spent.

        Args:
            layer: Name of a layer with these inputs, for the error.
        Raises:
            NumericalError: an activation, or its square in float32, was not finite.
        """
        gram = self._gram.div_(max(self.num_tokens, 1))
        for begin, end in self._panels():
            # Panel by panel in place: a wide layer's statistic is the largest thing in memory as it is.
            gram[begin:end, end:] = gram[end:, begin:end].mT
            square = gram[begin:end, begin:end]
            lower = square.tril(-1)
            square.copy_(lower + lower.mT + torch.diag(square.diagonal()))
        if not bool(torch.isfinite(gram.sum())):
            raise NumericalError(
                f"layer {layer}: its input on the calibration text is not finite or too large to square in float32; "
                "the model overflows before it, so repair the source checkpoint"
            )
        return Statistics(gram, self._largest, self.num_tokens)

    def _add_gram(self, tokens: Float[Tensor, "tokens in"]) -> None:
        for part, product in self._products(tokens):
            part.add_(product)

    def _products(self, tokens: Float[Tensor, "tokens in"]) -> Iterator[tuple[Tensor, Tensor]]:
        # Only the lower panels: the product is symmetric, so three eighths of the arithmetic is saved.
        for begin, end in self._panels():
            yield self._gram[begin:, begin:end], tokens[:, begin:].mT @ tokens[:, begin:end]

    def _panels(self) -> Iterator[tuple[int, int]]:
        size = len(self._gram)
        step = max(-(-size // GRAM_PANELS), 1)
        for begin in range(0, size, step):
            yield begin, min(begin + step, size)


_Key = tuple[int, int, int, int]
"""Address, size, width and version of a tensor that is kept alive: which input it is."""


@dataclass
class _Given:
    """The input that a group was given last in the batch at hand."""

    key: _Key
    inputs: Tensor
    seen_by: set[str]
    largest_before: Tensor


@dataclass
class _Group:
    accumulator: InputAccumulator
    members: list[str]
    num_inputs: int = 0
    """That the accumulator has taken in."""
    last: _Given | None = None


class InputCollector:
    """Watches modules run and accumulates one statistic for each distinct input tensor.

    Modules form a group as long as each of them is called with the very same tensors, in every batch. Groups are found
    by the identity of the tensor, never by name. The first module of a group adds what it is given; the others look
    whether they are given the same. One that is not leaves with what it has seen, as keys do that look at a decoder's
    and at an encoder's states, or queries that are called once more than the keys beside them.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._groups: list[_Group] = []
        self._group_of: dict[str, _Group] = {}
        self._seen: dict[_Key, tuple[_Group, Tensor]] = {}
        self._idle: dict[str, InputAccumulator] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect while the modules run inside this scope."""
        handles = [
            module.register_forward_pre_hook(lambda _, args, name=name: self._see(name, args[0]))
            for name, module in self._modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.end_batch()

    def end_batch(self) -> None:
        """Forget the tensors of a batch; call after each, so that their addresses may be used again.

        Raises:
            NumericalError: a layer that left its group cannot be told apart from it.
        """
        for group in list(self._groups):
            self._settle(group)
        self._seen.clear()

    def groups(self) -> Iterator[tuple[tuple[str, ...], Statistics]]:
        """Yield each group of module names with its statistics, freeing them one after the other."""
        for name, nothing in self._idle.items():
            if name not in self._group_of:
                self._found(nothing, [name])
        self._group_of.clear()
        while self._groups:
            group = self._groups.pop(0)
            yield tuple(group.members), group.accumulator.finish(group.members[0])

    def _see(self, name: str, inputs: Tensor) -> None:
        if not inputs.numel():  # of an expert without tokens; all empty tensors have one address
            self._idle.setdefault(name, InputAccumulator(inputs.shape[-1], inputs.device))
            return
        key = (inputs.data_ptr(), inputs.numel(), inputs.shape[-1], inputs._version)  # noqa: SLF001  # the only witness of an in-place change
        group = self._group_of.get(name)
        if group is None:
            group = self._joined(name, key) or self._found(InputAccumulator(inputs.shape[-1], inputs.device), [name])
        if group.last is not None and group.last.key == key and name not in group.last.seen_by:
            group.last.seen_by.add(name)
            return
        if name != group.members[0]:
            if not bool(inputs.any()):  # a state before the first token: it adds nothing to any statistic
                if group.last is not None and not bool(group.last.inputs.any()):
                    group.last.seen_by.add(name)
                return
            group = self._left(group, [name])
        self._settle(group)
        largest = group.accumulator.largest
        group.accumulator.add(inputs)
        group.num_inputs += 1
        group.last = _Given(key, inputs, {name}, largest)
        self._seen[key] = (group, inputs)

    def _joined(self, name: str, key: _Key) -> _Group | None:
        """Return the group of an input, where that is all its members have ever seen."""
        group, _ = self._seen.get(key, (None, None))
        if group is None or group.num_inputs > 1 or group.last is None or group.last.key != key:
            return None
        group.members.append(name)
        self._group_of[name] = group
        return group

    def _found(self, accumulator: InputAccumulator, members: list[str], num_inputs: int = 0) -> _Group:
        group = _Group(accumulator, members, num_inputs)
        self._groups.append(group)
        self._group_of |= dict.fromkeys(members, group)
        return group

    def _settle(self, group: _Group) -> None:
        """Let those members leave that were not given what the group was given last."""
        if group.last is not None:
            missing = [name for name in group.members if name not in group.last.seen_by]
            if missing:
                self._left(group, missing)
        group.last = None

    def _left(self, group: _Group, names: list[str]) -> _Group:
        """Return a group of members that leave another one, with what they have seen so far.

        Args:
            names: Members all or none of which were given what the group was given last.
        """
        last, accumulator, num_inputs = group.last, group.accumulator, group.num_inputs
        if last is None or names[0] in last.seen_by:
            accumulator = accumulator.copy()
        elif last.inputs._version != last.key[-1]:  # noqa: SLF001  # as above
            raise NumericalError(
                f"{names[0]} shared its input with {group.members[0]} until that was called with another one, which "
                "was then changed in place"
            )
        else:
            accumulator, num_inputs = accumulator.without(last.inputs, last.largest_before), num_inputs - 1
        group.members = [name for name in group.members if name not in names]
        return self._found(accumulator, names, num_inputs)
