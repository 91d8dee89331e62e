"""What the blocks of one stretch are called with in one batch, noted while the model runs and they do nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from srr_core.errors import UnsupportedModelError
from srr_core.models.handed import StandIns, is_tainted
from srr_core.models.stream import Call, Hidden


class FirstCall(Exception):  # noqa: N818  # no error: it carries the arguments out of the model
    """A block was reached of which nobody knows what it returns."""

    def __init__(self, index: int, hidden: Hidden, call: Call) -> None:
        super().__init__(index)
        self.index, self.hidden, self.call = index, hidden, call


class StretchEnded(Exception):  # noqa: N818  # no error either
    """A block was reached whose arguments depend on what blocks before it return."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class HeadReached(Exception):  # noqa: N818  # nor is this
    """The model has come to its head, behind the last block."""


class Recorder:
    """Notes the calls of the blocks from one on, as long as they hand nothing but hidden states to each other."""

    def __init__(self, begin: int, end: int | None) -> None:
        """Begin with nothing.

        Args:
            begin: The first block of the stretch.
            end: Behind its last one, where another batch has shown it.
        """
        self.calls: dict[int, list[Call]] = {}
        self.entered: Hidden | None = None
        """What the first block was given."""
        self.stand_ins = StandIns()
        self._end = end
        self._last = begin
        self._passed: tuple[Hidden, int] | None = None
        """What was handed on last, and its version: some models change it in place."""

    def note(self, index: int, hidden: Hidden, *args: Any, **kwargs: Any) -> Hidden:
        """Note one call and pass the hidden states on.

        Raises:
            StretchEnded: the stretch ends before this block.
            UnsupportedModelError: blocks are called in an order in which they cannot be run one at a time.
        """
        if index < self._last:
            raise UnsupportedModelError("it goes through its blocks in another order than theirs, or again")
        is_again = index in self.calls
        if index == self._end or not self._follows(hidden):
            if is_again:
                raise UnsupportedModelError("it works on the hidden states between two calls of one block")
            raise StretchEnded(index)
        try:
            call = Call(self.stand_ins.marked(args), self.stand_ins.marked(kwargs))
        except UnsupportedModelError as error:
            if is_again:
                raise
            raise StretchEnded(index) from error
        if self.entered is None:
            self.entered = hidden.clone()
        self._last, self._passed = index, (hidden, hidden._version)  # noqa: SLF001  # torch has no other word for it
        self.calls.setdefault(index, []).append(call)
        return hidden

    def _follows(self, hidden: Hidden) -> bool:
        """Whether the model has handed on what the block before was given, and nothing else."""
        if self.entered is None or self._passed is None:
            return not (self.stand_ins.is_used and is_tainted(hidden))
        passed, version = self._passed
        if hidden is passed and hidden._version == version:  # noqa: SLF001  # the same
            return True
        return hidden.shape == self.entered.shape and torch.equal(hidden, self.entered)


def injecting(behind: Mapping[int, Hidden], stretches: list[range]) -> Callable[..., Hidden]:
    """Return a forward for blocks that have been run: the first that is called of a stretch returns what it ends with.

    What is returned is a copy, because models may change it in place.
    """
    begun: set[int] = set()

    def forward(index: int, hidden: Hidden, *_: Any, **__: Any) -> Hidden:
        stretch = next(number for number, blocks in enumerate(stretches) if index in blocks)
        if stretch in begun:
            return hidden
        begun.add(stretch)
        result: Tensor = behind[index].clone()
        return result

    return forward


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
