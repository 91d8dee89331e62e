"""Arithmetic without shortcuts, inside a scope."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Switch TF32 off while statistics and sketches are computed, and restore the caller's choice.

    TF32 keeps 10 bits of mantissa, which loses the small singular directions that L·R is made of.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
