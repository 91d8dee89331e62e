"""What the layers of one block see: statistics of their inputs, one for all layers that share an input."""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
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
        # Only the lower panels: the product is symmetric, so three eighths of the arithmetic is saved.
        for begin, end in self._panels():
            self._gram[begin:, begin:end] += tokens[:, begin:].mT @ tokens[:, begin:end]

    def _panels(self) -> Iterator[tuple[int, int]]:
        size = len(self._gram)
        step = max(-(-size // GRAM_PANELS), 1)
        for begin in range(0, size, step):
            yield begin, min(begin + step, size)


@dataclass
class _Group:
    accumulator: InputAccumulator
    members: list[str] = field(default_factory=list)


class InputCollector:
    """Watches modules run and accumulates one statistic for each distinct input tensor.

    Modules that are called with the very same tensor in the first batch form a group. Groups are found by the identity
    of the tensor, never by name. One that is called with something else too, as keys are that look at a decoder's and
    at an encoder's states, leaves its group with a statistic of its own.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._groups: dict[str, _Group] = {}
        self._leader_of: dict[str, str] = {}
        self._seen: dict[tuple[int, int, int, int], tuple[str, Tensor]] = {}
        self._calls: Counter[str] = Counter()
        self._alone: set[str] = set()

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
        """Forget the tensors of a batch; call after each, so that their addresses may be used again."""
        self._seen.clear()

    def groups(self) -> Iterator[tuple[tuple[str, ...], Statistics]]:
        """Yield each group of module names with its statistics, freeing them one after the other."""
        for leader in list(self._groups):
            group = self._groups.pop(leader)
            yield tuple(group.members), group.accumulator.finish(leader)

    def _leave(self, name: str) -> None:
        """Take a module out of its group, with what both have seen so far."""
        leader = self._leader_of[name]
        group = self._groups.get(leader)
        if leader == name or group is None or self._calls[leader] != self._calls[name] - 1:
            raise NumericalError(f"{name} shared its input with {leader} in one batch but not in another")
        group.members.remove(name)
        self._groups[name] = _Group(copy.deepcopy(group.accumulator), [name])
        self._leader_of[name] = name
        self._alone.add(name)

    def _see(self, name: str, inputs: Tensor) -> None:
        self._calls[name] += 1
        if name in self._alone:
            self._groups[name].accumulator.add(inputs)
            return
        key = (inputs.data_ptr(), inputs.numel(), inputs.shape[-1], inputs._version)  # noqa: SLF001  # the only witness of an in-place change
        leader, _ = self._seen.setdefault(key, (name, inputs))
        if self._leader_of.setdefault(name, leader) != leader:
            if not bool(inputs.any()):
                self._calls[name] -= 1
                return  # a state before the first token: it adds nothing to any statistic
            self._leave(name)
            if leader == name:
                del self._seen[key]  # others that are called with it have not seen what this module has
            self._groups[name].accumulator.add(inputs)
            return
        if leader != name:
            if name not in self._groups[leader].members:
                self._groups[leader].members.append(name)
            return
        if name not in self._groups:
            self._groups[name] = _Group(InputAccumulator(inputs.shape[-1], inputs.device), [name])
        self._groups[name].accumulator.add(inputs)
