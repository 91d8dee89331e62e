"""What the experts of a mixture see, though the model class keeps them fused in one parameter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from srr_core.calibration.statistics import InputAccumulator
from srr_core.errors import UnsupportedModelError
from srr_core.models.layers import Expert
from srr_core.types import Statistics

STATISTICS_BUDGET_BYTES = 8 * 2**30
"""Statistics of experts held at once; more experts take further passes over the block."""
_PRODUCTS = frozenset(
    {
        torch.nn.functional.linear,
        torch.matmul,
        torch.mm,
        torch.bmm,
        Tensor.matmul,
        Tensor.mm,
        Tensor.bmm,
        Tensor.__matmul__,
    }
)
UNROUTED = "no calibration token was routed to this expert: every input counts the same"


class ExpertCollector(TorchFunctionMode):
    """Watches products with slices of a fused parameter and accumulates one statistic for each slice.

    The address of the weight in a product tells which expert it belongs to, so no layout of any mixture is
    assumed beyond one leading dimension of experts. The model may multiply expert by expert, as the eager
    implementation of transformers does, or all of them in one batched product. Use as a context manager around the
    block.

    Args:
        block: Loaded; its parameters must not move while this object lives.
        experts: Layer name -> which slice it is part of; layers of one slice share one statistic.
    """

    def __init__(self, root: nn.Module, experts: Mapping[str, Expert]) -> None:
        super().__init__()
        self._members: dict[int, list[str]] = {}
        self._widths: dict[int, int] = {}
        self._batches: dict[int, int] = {}
        """Address of a fused parameter -> bytes from one expert to the next."""
        self._accumulators: dict[int, InputAccumulator] = {}
        for name, expert in experts.items():
            fused = root.get_submodule(expert.module).get_parameter(expert.parameter)
            address = fused[expert.index].data_ptr()
            self._members.setdefault(address, []).append(name)
            self._widths[address] = fused.shape[-2 if expert.is_transposed else -1]
            self._batches.setdefault(fused.data_ptr(), fused[0].numel() * fused.element_size())
            self._device = fused.device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the input of a product with an expert's weight, then compute it."""
        if func in _PRODUCTS and len(args) > 1 and isinstance(args[0], Tensor) and isinstance(args[1], Tensor):
            self._see_product(args[0], args[1])
        return func(*args, **(kwargs or {}))

    def groups(self) -> Iterator[tuple[tuple[str, ...], Statistics, tuple[str, ...]]]:
        """Yield the layers of each slice, its statistics and notes about them, freeing them as they go."""
        for address, names in self._members.items():
            accumulator = self._accumulators.pop(address, None)
            if accumulator is None or accumulator.num_tokens == 0:
                width = self._widths[address]
                identity = torch.eye(width, dtype=torch.float64, device=self._device)
                yield tuple(names), Statistics(identity, identity.diagonal(), 0), (UNROUTED,)
            else:
                yield tuple(names), accumulator.finish(names[0]), ()

    def _see_product(self, inputs: Tensor, weight: Tensor) -> None:
        address, step = weight.data_ptr(), self._batches.get(weight.data_ptr())
        if weight.dim() == 3 and step is not None and inputs.dim() == 3:
            for index, rows in enumerate(inputs):
                self._see(rows, address + index * step)
        elif weight.dim() == 2:
            self._see(inputs, address)

    def _see(self, inputs: Tensor, address: int) -> None:
        if address not in self._members:
            return
        if inputs.shape[-1] != self._widths[address]:
            raise UnsupportedModelError(
                f"{self._members[address][0]} is multiplied with {inputs.shape[-1]} inputs, where its shape says "
                f"{self._widths[address]}"
            )
        if address not in self._accumulators:
            self._accumulators[address] = InputAccumulator(inputs.shape[-1], inputs.device)
        self._accumulators[address].add(inputs)


def passes(experts: Mapping[str, tuple[Expert, int]]) -> Sequence[Mapping[str, Expert]]:
    """Cut the experts of a block into sets whose statistics fit the budget together.

    Args:
        experts: Layer name -> its slice and its number of inputs.
    """
    sets: list[dict[str, Expert]] = [{}]
    seen: set[tuple[str, str, int]] = set()
    held = 0
    ordered = sorted(experts.items(), key=lambda item: (item[1][0].module, item[1][0].index, item[1][0].parameter))
    for name, (expert, width) in ordered:
        key = (expert.module, expert.parameter, expert.index)
        cost = 0 if key in seen else 8 * width * width
        if held and held + cost > STATISTICS_BUDGET_BYTES:
            sets.append({})
            held = 0
        seen.add(key)
        held += cost
        sets[-1][name] = expert
    return sets
