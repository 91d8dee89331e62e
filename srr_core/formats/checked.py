"""Tensors of a file, taken only in the dtype and shape the layout wrote, and only with numbers in them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from srr_core.errors import CheckpointError

ReadTensor = Callable[[str], Tensor]
"""Returns a tensor of the checkpoint by its full name; raises CheckpointError for a missing one."""


def expect(tensor: Tensor, name: str, *, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Return a tensor as read, if it is what the layout wrote.

    Raises:
        CheckpointError: another dtype or shape; the message names the tensor and both.
    """
    if tensor.dtype != dtype:
        raise CheckpointError(f"tensor {name} has dtype {tensor.dtype}, the layout needs {dtype}")
    if tuple(tensor.shape) != tuple(shape):
        raise CheckpointError(f"tensor {name} has shape {tuple(tensor.shape)}, the layout needs {tuple(shape)}")
    return tensor


def require_finite(tensor: Tensor, name: str) -> None:
    """Check scales and factors, which no layout writes as NaN or infinity; integers always pass.

    Raises:
        CheckpointError: the message names the tensor.
    """
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"tensor {name} holds NaN or infinity")
