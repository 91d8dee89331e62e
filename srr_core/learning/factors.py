"""L and R of one layer while they learn: Adam, whose two moments live here so that a step depends on nothing else."""

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-8
"""Of Adam, as published (arXiv:1412.6980)."""


class LearnedFactors:
    """L·R in float32; stored in the dtype it came in.

    Memory: three times L and R in float32.
    """

    def __init__(self, left: Shaped[Tensor, "out rank"], right: Shaped[Tensor, "rank in"]) -> None:
        self._dtype = left.dtype
        self._left, self._right = _Adam(left), _Adam(right)

    def values(self) -> Float32[Tensor, "out in"]:
        """Return L·R."""
        return self._left.value @ self._right.value

    def step(self, gradient: Float32[Tensor, "out in"], learning_rate: float) -> None:
        """Move both by one step of Adam.

        Args:
            gradient: Of the loss by L·R.
            learning_rate: As a share of the root mean square of each factor at the start, so that a model with weights
                half as large learns the same.
        """
        left_gradient, right_gradient = gradient @ self._right.value.mT, self._left.value.mT @ gradient
        self._left.step(left_gradient, learning_rate)
        self._right.step(right_gradient, learning_rate)

    def stored(self) -> tuple[Shaped[Tensor, "out rank"], Shaped[Tensor, "rank in"]]:
        """Return L and R as they are stored."""
        return self._left.value.to(self._dtype), self._right.value.to(self._dtype)


class _Adam:
    def __init__(self, start: Tensor) -> None:
        self.value = start.to(torch.float32, copy=True)
        self._mean = torch.zeros_like(self.value)
        self._square = torch.zeros_like(self.value)
        self._steps = 0
        self._size = float(self.value.square().mean().sqrt())

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        self._steps += 1
        self._mean.lerp_(gradient, 1 - _FIRST_DECAY)
        self._square.lerp_(gradient.square(), 1 - _SECOND_DECAY)
        root = (self._square / (1 - _SECOND_DECAY**self._steps)).sqrt_().add_(_EPSILON)
        self.value.addcdiv_(self._mean, root, value=-learning_rate * self._size / (1 - _FIRST_DECAY**self._steps))
